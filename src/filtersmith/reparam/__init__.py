"""Re-parametrization: train an expanded network, deploy the plain one.

`expand` and `collapse`, with the weight decay of what is computed (`param_groups`). A method either computes a weight
from other parameters (its parametrization is an `Expansion`) or makes a block of `Branches` of a convolution and the
batch norm behind it; how branches fuse is in `filtersmith.reparam.branches`.
"""

from filtersmith.reparam.branches import Branches
from filtersmith.reparam.collapse import collapse
from filtersmith.reparam.expand import BranchMethod, Target, WeightMethod, expand, layers_not_expanded, select
from filtersmith.reparam.groups import param_groups, refuse_maximize
from filtersmith.reparam.parametrization import Expansion, Role, fresh, originals

__all__ = [
    "BranchMethod",
    "Branches",
    "Expansion",
    "Role",
    "Target",
    "WeightMethod",
    "collapse",
    "expand",
    "fresh",
    "layers_not_expanded",
    "originals",
    "param_groups",
    "refuse_maximize",
    "select",
]
