"""Parameters that no optimizer has, found before a training in which nothing would move them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from typing import Any

from torch import nn
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized

from filtersmith.common.modules import plain_name, unwrap
from filtersmith.common.said import warn_user
from filtersmith.optim.groups import levels_with_groups
from filtersmith.optim.wrappers import groups_of, owned_by
from filtersmith.reparam import Branches, Expansion, refuse_maximize


def check_parameters(model: nn.Module, optimizer: Any, made: Collection[str]) -> list[str]:
    """Look for parameters that nothing would move, before a training.

    Args:
        model: the network; wrapped as well.
        optimizer: one or several.
        made: the names of parameters that methods made in it.

    Returns:
        Warnings, which are given, too.

    Raises:
        ValueError: it is not the network with these parameters; a method needs a parameter that no optimizer has;
            the optimizer has none at all; kernels that are computed would grow.
    """
    refuse_maximize(unwrap(model), groups_of(optimizer))
    owned = owned_by(optimizer)
    named = {plain_name(n): p for n, p in unwrap(model).named_parameters()}
    trained = {name: p for name, p in named.items() if p.requires_grad}
    missing = [name for name, parameter in trained.items() if id(parameter) not in owned]
    if absent := sorted(set(made) - named.keys()):
        raise ValueError(f"model must be the network that prepare() returned; it has no parameter {absent[0]!r}")
    if of_methods := [name for name in missing if name in made]:
        raise ValueError(
            f"optimizer must have every parameter that the methods train, it lacks {of_methods[0]!r}: make it "
            "after prepare(), with training.param_groups(model, weight_decay)"
        )
    if trained and len(missing) == len(trained):
        raise ValueError(
            "optimizer must have parameters of the model, it has none of them (was it made for another copy?)"
        )
    refuse_expanded_too_late(unwrap(model), optimizer)
    if missing:
        warn_user(f"{untrained(missing)}: it stays as it is, as if it was frozen")
    return [untrained(missing)] if missing else []


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
