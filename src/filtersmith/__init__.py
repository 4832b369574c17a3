"""filtersmith: training methods that make the filters a ConvNet already has work harder.

The core needs torch alone. ``filtersmith.zoo`` has the papers' networks, the command ``filtersmith`` the laboratory.
"""

from filtersmith.methods import ASA, DBB, EMA, KFLO, METHODS, SAS, WAU, ACNet, ConvLR, DOConv, Flow
from filtersmith.methods.registry import Method
from filtersmith.reparam import collapse, expand, param_groups

__version__ = "0.1.0"

__all__ = [
    "ASA",
    "DBB",
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
    "__version__",
    "collapse",
    "expand",
    "param_groups",
]
