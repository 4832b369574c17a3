"""filtersmith: training methods that make the filters a ConvNet already has work harder.

The core needs torch alone, and imports it when the first name is used. ``fs.measure`` tells what the filters of a
network do; ``filtersmith.zoo`` has the papers' networks, the command ``filtersmith`` the laboratory.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from filtersmith import measure as measure
    from filtersmith.graph.channels import channel_graph as channel_graph
    from filtersmith.measure.ranking import rank as rank
    from filtersmith.methods import METHODS as METHODS
    from filtersmith.methods import Method as Method
    from filtersmith.methods.acnet import ACNet as ACNet
    from filtersmith.methods.composition import Composition as Composition
    from filtersmith.methods.composition import compose as compose
    from filtersmith.methods.conv_lr import ConvLR as ConvLR
    from filtersmith.methods.dacnn import add_regulators as add_regulators
    from filtersmith.methods.dacnn import share_kernels as share_kernels
    from filtersmith.methods.dbb import DBB as DBB
    from filtersmith.methods.distill import KD as KD
    from filtersmith.methods.doconv import DOConv as DOConv
    from filtersmith.methods.dsd import DSD as DSD
    from filtersmith.methods.ema import EMA as EMA
    from filtersmith.methods.flow import ASA as ASA
    from filtersmith.methods.flow import SAS as SAS
    from filtersmith.methods.flow import Flow as Flow
    from filtersmith.methods.kflo import KFLO as KFLO
    from filtersmith.methods.ortho_loss import OrthoLoss as OrthoLoss
    from filtersmith.methods.ortho_loss import ortho_loss as ortho_loss
    from filtersmith.methods.prune import Prune as Prune
    from filtersmith.methods.repr import RePr as RePr
    from filtersmith.methods.wau import WAU as WAU
    from filtersmith.methods.why_not import why_not as why_not
    from filtersmith.reparam import collapse as collapse
    from filtersmith.reparam import expand as expand
    from filtersmith.reparam import param_groups as param_groups
    from filtersmith.sharing.ties import check_ties as check_ties

__version__ = "0.2.0"

_HOMES = {
    "ASA": "methods.flow",
    "DBB": "methods.dbb",
    "DSD": "methods.dsd",
    "EMA": "methods.ema",
    "KD": "methods.distill",
    "KFLO": "methods.kflo",
    "METHODS": "methods",
    "SAS": "methods.flow",
    "WAU": "methods.wau",
    "ACNet": "methods.acnet",
    "Composition": "methods.composition",
    "ConvLR": "methods.conv_lr",
    "DOConv": "methods.doconv",
    "Flow": "methods.flow",
    "Method": "methods",
    "OrthoLoss": "methods.ortho_loss",
    "Prune": "methods.prune",
    "RePr": "methods.repr",
    "add_regulators": "methods.dacnn",
    "channel_graph": "graph.channels",
    "check_ties": "sharing.ties",
    "collapse": "reparam",
    "compose": "methods.composition",
    "expand": "reparam",
    "ortho_loss": "methods.ortho_loss",
    "param_groups": "reparam",
    "rank": "measure.ranking",
    "share_kernels": "methods.dacnn",
    "why_not": "methods.why_not",
}
"""Public name -> the module that it comes from."""

__all__ = ["__version__", "measure", *_HOMES]  # a static checker sees the names above


if not TYPE_CHECKING:  # who checks types reads the imports above, and is told of names that are none

    def __getattr__(name: str) -> Any:
        """A public name, imported when it is first used (PEP 562)."""
        if name == "measure":
            return importlib.import_module("filtersmith.measure")
        if name not in _HOMES:
            raise AttributeError(f"module 'filtersmith' has no attribute {name!r}")
        value = getattr(importlib.import_module(f"filtersmith.{_HOMES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
