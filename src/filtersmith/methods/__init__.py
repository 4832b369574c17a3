"""The methods, one paper a file, and the registry of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from filtersmith.methods.acnet import ACNet
from filtersmith.methods.conv_lr import ConvLR
from filtersmith.methods.dacnn import add_regulators, share_kernels
from filtersmith.methods.dbb import DBB
from filtersmith.methods.doconv import DOConv
from filtersmith.methods.dsd import DSD
from filtersmith.methods.ema import EMA
from filtersmith.methods.flow import ASA, SAS, Flow
from filtersmith.methods.kflo import KFLO
from filtersmith.methods.ortho_loss import OrthoLoss
from filtersmith.methods.prune import Prune
from filtersmith.methods.registry import Method
from filtersmith.methods.repr import RePr
from filtersmith.methods.wau import WAU

_DACNN_PAPER = "Deep Anchored CNN, CVPR Workshops 2019"
_REPR_PAPER = "RePr, CVPR 2019"
_WAU_PAPER = "Weight Asynchronous Update, CVM 2020"

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        method.name: method
        for method in (
            Method(
                "wau",
                "step mask",
                "each step updates a random part of every layer's filters",
                _WAU_PAPER,
                WAU,
                off={"rate": 1.0},
            ),
            Method("asa", "flow", "WAU, plain, WAU: three phases with restarts", _WAU_PAPER, ASA, off={"rate": 1.0}),
            Method(
                "sas", "flow", "plain, WAU, plain: three phases with restarts", _WAU_PAPER, SAS, off={"rate": 1.0}
            ),
            Method(
                "flow",
                "flow",
                "any phases of WAU rates, with restarts",
                _WAU_PAPER,
                Flow,
                off={"rates": (1.0, 1.0, 1.0)},
            ),
            Method(
                "conv-lr",
                "control",
                "plain training, the convolutions' learning rate times r",
                "control",
                ConvLR,
                off={"rate": 1.0},
            ),
            Method(
                "kflo",
                "re-parametrization",
                "trains every kernel as a product of larger ones",
                "Utilizing Excess Resources (KFLO), 2022",
                KFLO,
            ),
            Method(
                "do-conv",
                "re-parametrization",
                "a mixing matrix for every input channel's window",
                "DO-Conv, TIP 2022",
                DOConv,
            ),
            Method(
                "acnet",
                "re-parametrization",
                "adds branches with a vertical and a horizontal kernel",
                "ACNet, ICCV 2019",
                ACNet,
            ),
            Method(
                "dbb",
                "re-parametrization",
                "adds 1x1, 1x1-kxk and 1x1-average branches",
                "Diverse Branch Block, CVPR 2021",
                DBB,
            ),
            Method(
                "ema",
                "average",
                "plain training; deploys a moving average of the weights",
                "Polyak and Juditsky, 1992",
                EMA,
                off={"decay": 0.0},
            ),
            Method(
                "repr",
                "cycle",
                "prunes overlapping filters, trains the rest, restores orthogonal ones",
                _REPR_PAPER,
                RePr,
                off={"prune": 0.0},
            ),
            Method(
                "dsd",
                "cycle",
                "masks the smallest weights for a while, lets them start again from 0",
                "Dense-Sparse-Dense Training, ICLR 2017",
                DSD,
                off={"prune": 0.0},
            ),
            Method(
                "prune",
                "pruning",
                "prunes the smallest filters or weights once, trains what is left",
                "Pruning Filters, ICLR 2017; Learning both Weights and Connections, NeurIPS 2015",
                Prune,
                off={"share": 0.0},
            ),
            Method(
                "ortho-loss",
                "loss",
                "a penalty on the cosines between a layer's filters",
                _REPR_PAPER,
                OrthoLoss,
                off={"weight": 0.0},
            ),
            Method(
                "dacnn",
                "architecture",
                "one kernel for all convolutions of equal shape",
                _DACNN_PAPER,
                share_kernels,
                same_network=False,
            ),
            Method(
                "regulators",
                "architecture",
                "a free 1x1 convolution at the end of every residual branch",
                _DACNN_PAPER,
                add_regulators,
                same_network=False,
            ),
        )
    }
)
"""Name -> record of every method."""

__all__ = [
    "ASA",
    "DBB",
    "DSD",
    "EMA",
    "KFLO",
    "METHODS",
    "SAS",
    "WAU",
    "ACNet",
    "ConvLR",
    "DOConv",
    "Flow",
    "Method",
    "OrthoLoss",
    "Prune",
    "RePr",
    "add_regulators",
    "share_kernels",
]
