"""filtersmith: training methods that make the filters a ConvNet already has work harder.

The core needs torch alone. ``filtersmith.zoo`` has the papers' networks, the command ``filtersmith`` the laboratory.
"""

from filtersmith.methods import ASA, METHODS, SAS, WAU, ConvLR, Flow
from filtersmith.methods.registry import Method

__version__ = "0.1.0"

__all__ = ["ASA", "METHODS", "SAS", "WAU", "ConvLR", "Flow", "Method", "__version__"]
