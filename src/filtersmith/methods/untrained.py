"""Parameters that no optimizer has, found before a training in which nothing would move them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized

from filtersmith.optim.groups import levels_with_groups
from filtersmith.reparam import Branches, Expansion


def refuse_expanded_too_late(model: nn.Module, optimizer: Any) -> None:
    """``ValueError`` where a layer was expanded after its optimizer was made, which knows its old weight or a part.

    An expanded layer that the optimizer has nothing of, and never had, is the user's choice.
    """
    levels = levels_with_groups(optimizer)
    owned = {id(p): p for level in levels for group in level.param_groups for p in group["params"]}
    known = {id(p) for p in model.parameters()}
    left_over = {p.numel() for key, p in owned.items() if key not in known}
    for name, numel, parameters in _expanded(model):
        trained = {id(p) in owned for p in parameters if p.requires_grad}
        if trained == {True, False} or (trained == {False} and (numel is None or numel in left_over)):
            raise ValueError(
                f"optimizer must have every parameter of the expanded layer {name!r}, it lacks some: make it after "
                "fs.expand(model), with fs.param_groups(model, weight_decay)"
            )


def untrained(missing: list[str]) -> str:
    """In words, the parameters that no optimizer has.

    >>> untrained(["fc.weight", "fc.bias"])
    "no optimizer has the trainable parameter 'fc.weight' and 1 more"
    """
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    return f"no optimizer has the trainable parameter {missing[0]!r}{more}"


def _expanded(model: nn.Module) -> Iterator[tuple[str, int | None, list[nn.Parameter]]]:
    """Each expanded layer: its name, the size of its old weight where it had one, what it trains."""
    for name, module in model.named_modules():
        if isinstance(module, Branches):
            yield name, 0, list(module.parameters())
        elif is_parametrized(module):
            for tensor in module.parametrizations.values():
                if isinstance(tensor, ParametrizationList) and any(isinstance(one, Expansion) for one in tensor):
                    yield name, _numel(module), list(tensor.parameters())


def _numel(module: Any) -> int | None:
    """How many numbers the plain weight of a convolution or a linear layer has."""
    if isinstance(module, nn.Linear):
        return module.in_features * module.out_features
    if not hasattr(module, "kernel_size"):
        return None
    return int(module.in_channels * module.out_channels // module.groups * math.prod(module.kernel_size))
