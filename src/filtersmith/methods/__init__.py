"""The methods, one paper a file, and the registry of all of them. Nothing here imports torch."""

from __future__ import annotations

from typing import Any

from filtersmith.methods.registry import BASELINE, Method, Registry

_DACNN_PAPER = "Deep Anchored CNN, CVPR Workshops 2019"
_REPR_PAPER = "RePr, CVPR 2019"
_WAU_PAPER = "Weight Asynchronous Update, CVM 2020"

_Options = dict[str, Any]
_NO_RATE: tuple[_Options, ...] = ({"rate": 0.0}, {"rate": 1.5}, {"rate": -0.5}, {"rate": "half"})
_NO_CYCLE: tuple[_Options, ...] = (
    *({"s1": 0}, {"s2": 1.5}, {"cycles": -1}),
    *({"prune": 1.0}, {"prune": -0.1}, {"prune": "half"}),
)
_MASKED: _Options = {"rate": 0.5, "seed": 1}
_CYCLED: _Options = {"s1": 2, "s2": 1, "cycles": 2}

METHODS = Registry(
    (
        Method(
            "wau",
            "each step updates a random part of every convolution's filters",
            _WAU_PAPER,
            "filtersmith.methods.wau:WAU",
            off={"rate": 1.0},
            tried=_MASKED,
            refused=(
                *_NO_RATE,
                {"unit": "row"},
                {"draw": "twice"},
                {"seed": 0.5},
                {"layers": "dense"},
                {"layers": ()},
            ),
        ),
        Method(
            "asa",
            "WAU, plain, WAU: three phases with restarts",
            _WAU_PAPER,
            "filtersmith.methods.flow:ASA",
            off={"rate": 1.0},
            tried=_MASKED,
            refused=_NO_RATE,
        ),
        Method(
            "sas",
            "plain, WAU, plain: three phases with restarts",
            _WAU_PAPER,
            "filtersmith.methods.flow:SAS",
            off={"rate": 1.0},
            tried=_MASKED,
            refused=_NO_RATE,
        ),
        Method(
            "flow",
            "any phases of WAU rates, with restarts",
            _WAU_PAPER,
            "filtersmith.methods.flow:Flow",
            off={"rates": (1.0, 1.0, 1.0)},
            tried={"rates": (0.3, 1.0, 0.7)},
            refused=({"rates": ()}, {"rates": 0.5}),
        ),
        Method(
            "conv-lr",
            "plain training, the convolutions' learning rate times r",
            "control",
            "filtersmith.methods.conv_lr:ConvLR",
            off={"rate": 1.0},
            tried={"rate": 0.5},
            refused=(*_NO_RATE, {"layers": "dense"}),
        ),
        Method(
            "kflo",
            "trains every kernel as a product of larger ones",
            "Utilizing Excess Resources (KFLO), 2022",
            "filtersmith.methods.kflo:KFLO",
            tried={"depth": 2, "width": 2},
            refused=({"depth": 1}, {"depth": 2.5}, {"width": 0}, {"width": "wide"}, {"init": "dirac"}),
        ),
        Method(
            "do-conv",
            "a mixing matrix for every input channel's window",
            "DO-Conv, TIP 2022",
            "filtersmith.methods.doconv:DOConv",
            tried={"d_mul": 9},
            refused=({"d_mul": 0}, {"d_mul": 4.5}),
        ),
        Method(
            "acnet",
            "adds branches with a vertical and a horizontal kernel",
            "ACNet, ICCV 2019",
            "filtersmith.methods.acnet:ACNet",
        ),
        Method(
            "dbb",
            "adds 1x1, 1x1-kxk and 1x1-average branches",
            "Diverse Branch Block, CVPR 2021",
            "filtersmith.methods.dbb:DBB",
        ),
        Method(
            "ema",
            "plain training; deploys a moving average of the weights",
            "Polyak and Juditsky, 1992",
            "filtersmith.methods.ema:EMA",
            off={"decay": 0.0},
            tried={"decay": 0.5},
            refused=({"decay": 1.0}, {"decay": -0.1}, {"decay": "slow"}, {"warmup": 1}),
        ),
        Method(
            "repr",
            "prunes overlapping filters, trains the rest, restores orthogonal ones",
            _REPR_PAPER,
            "filtersmith.methods.repr:RePr",
            off={"prune": 0.0},
            tried=_CYCLED | {"seed": 1},
            refused=(
                *(*_NO_CYCLE, {"scale": 0.0}, {"reinit": "dirac"}, {"reinit_next": "large"}),
                *({"rank": "size"}, {"keep_min": 0}, {"seed": 0.5}),
            ),
        ),
        Method(
            "dsd",
            "masks the smallest weights for a while, lets them start again from 0",
            "Dense-Sparse-Dense Training, ICLR 2017",
            "filtersmith.methods.dsd:DSD",
            off={"prune": 0.0},
            tried=_CYCLED,
            refused=(*_NO_CYCLE, {"lr_factor": 0.0}, {"lr_factor": 2}, {"layers": "dense"}),
        ),
        Method(
            "prune",
            "prunes the smallest filters or weights once, trains what is left",
            "Pruning Filters, ICLR 2017; Learning both Weights and Connections, NeurIPS 2015",
            "filtersmith.methods.prune:Prune",
            off={"share": 0.0},
            tried={"after": 1, "share": 0.4},
            refused=(
                *({"after": 0}, {"after": 1.5}, {"share": 1.0}, {"share": -0.1}, {"share": "half"}),
                *({"unit": "row"}, {"first_layer": 1}, {"layers": "dense"}),
            ),
        ),
        Method(
            "ortho-loss",
            "a penalty on the cosines between a layer's filters",
            _REPR_PAPER,
            "filtersmith.methods.ortho_loss:OrthoLoss",
            off={"weight": 0.0},
            tried={"weight": 0.1},
            refused=({"weight": -1.0}, {"weight": "big"}, {"layers": "dense"}),
        ),
        Method(
            "kd",
            "learns from another network, too",
            "Distilling the Knowledge, 2015",
            "filtersmith.methods.distill:KD",
            off={"teacher": "runs/teacher", "weight": 0.0},
            tried={"teacher": "runs/teacher"},
            refused=(
                *(
                    {"temperature": 0.0},
                    {"temperature": "hot"},
                    {"weight": 1.5},
                    {"weight": -0.1},
                    {"weight": "half"},
                ),
            ),
        ),
        Method(
            "dacnn",
            "one kernel for all convolutions of equal shape",
            _DACNN_PAPER,
            "filtersmith.methods.dacnn:share_kernels",
            same_network=False,
            tried={"scope": "network"},
            refused=({"scope": "layer"}, {"scope": 3}),
        ),
        Method(
            "regulators",
            "a free 1x1 convolution at the end of every residual branch",
            _DACNN_PAPER,
            "filtersmith.methods.dacnn:add_regulators",
            same_network=False,
            tried={"sections": "all"},
            refused=({"sections": "last"}, {"sections": 0}),
        ),
    )
)
"""Name -> record of every method, also of other packages: see `filtersmith.methods.registry`."""

__all__ = ["BASELINE", "METHODS", "Method", "Registry"]
