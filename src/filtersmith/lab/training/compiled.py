"""Networks that are compiled once for all runs of a process.

``torch.compile`` keeps what it compiles by the code of the network's class, and takes it again for another network
whose modules have the same classes: for the next seed, then, where nothing stands in the way. Two things do.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

LIMIT = 512
"""Versions of one network that are kept: of each method those for whole batches, the last one and sub-networks. torch
itself keeps 8 and computes without compiling from then on."""

_classes: dict[tuple[object, ...], type[nn.Module]] = {}


def compiled(model: nn.Module) -> nn.Module:
    """``torch.compile(model)``; what was compiled for a network like it is used again.

    >>> network = compiled(nn.Linear(2, 1))
    >>> network.weight.shape
    torch.Size([1, 2])
    """
    import torch._dynamo.config as dynamo

    dynamo.recompile_limit = max(dynamo.recompile_limit, LIMIT)
    dynamo.accumulated_recompile_limit = max(dynamo.accumulated_recompile_limit, LIMIT)
    share_classes(model)
    return torch.compile(model)  # type: ignore[return-value]


def share_classes(model: nn.Module) -> None:
    """Give parametrized modules of one kind one class, where torch makes one for each.

    They differ in nothing else. A shared class must keep its properties, so neither ``register_parametrization`` nor
    ``remove_parametrizations`` is for such a module any more; `filtersmith.collapse` does without.
    """
    for module in model.modules():
        if is_parametrized(module):
            kind = type(module)
            computed = sorted(name for name, value in vars(kind).items() if isinstance(value, property))
            module.__class__ = _classes.setdefault((kind.__bases__, *computed), kind)
