"""filtersmith: training methods that make the filters a ConvNet already has work harder.

The core needs torch alone. ``filtersmith.zoo`` has the papers' networks, the command ``filtersmith`` the laboratory.
"""

from filtersmith.graph.channels import channel_graph
from filtersmith.measure.ranking import rank
from filtersmith.methods import (
    ASA,
    DBB,
    DSD,
    EMA,
    KFLO,
    METHODS,
    SAS,
    WAU,
    ACNet,
    ConvLR,
    DOConv,
    Flow,
    OrthoLoss,
    Prune,
    RePr,
    add_regulators,
    share_kernels,
)
from filtersmith.methods.ortho_loss import ortho_loss
from filtersmith.methods.registry import Method
from filtersmith.reparam.expand import collapse, expand, param_groups
from filtersmith.sharing.ties import check_ties

__version__ = "0.1.0"

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
    "__version__",
    "add_regulators",
    "channel_graph",
    "check_ties",
    "collapse",
    "expand",
    "ortho_loss",
    "param_groups",
    "rank",
    "share_kernels",
]
