"""Twins of optimizers, made by their own constructors: what a new one has before its first step."""

from __future__ import annotations

import inspect
from collections.abc import Collection
from typing import Any, NamedTuple

from torch import Tensor, nn

from filtersmith.optim.apart import apart
from filtersmith.optim.chains import Chain, groups_with, is_innermost
from filtersmith.optim.wrappers import levels


class Twin(NamedTuple):
    """Another optimizer of the same options.

    Attributes:
        made: the other one; ``None`` where its constructor does not say enough.
        real: its parameters -> those that they stand for, which have the same values.
    """

    made: Any
    real: dict[Tensor, Tensor]


def construct(level: Any, first: Any) -> Any:
    """Another one made by the class's own constructor, with the options that it shows; ``None`` where that fails.

    Args:
        first: the first argument: groups, or what is wrapped.
    """
    shown = {**vars(level), **getattr(level, "defaults", {})}
    given: dict[str, Any] = {}
    for name, option in list(inspect.signature(type(level).__init__).parameters.items())[2:]:
        if name in shown:
            given[name] = shown[name]
        elif option.default is option.empty and option.kind not in (option.VAR_KEYWORD, option.VAR_POSITIONAL):
            return None
    try:
        return type(level)(first, **given)
    except Exception:
        return None


def remake(chain: Chain, parameter: Tensor | None = None) -> bool:
    """State that the constructor makes, made again: of one parameter or all. Whether that worked for all levels."""
    works = True
    with apart(chain):
        for level in chain:
            groups = vars(level).get("param_groups") if is_innermost(level) else None
            if not groups:
                continue
            if parameter is not None:
                groups = [{**group, "params": [parameter]} for group in groups_with(level, parameter)]
            real: dict[Tensor, Tensor] = {}
            twin = construct(level, stand_ins(groups, real))
            works = works and twin is not None
            for p, state in (twin.state if twin is not None else {}).items():
                level.state[real[p]].update(state)
    return works


def stand_ins(groups: Any, real: dict[Tensor, Tensor]) -> list[dict[str, Any]]:
    """Groups with other parameters of the same values; ``real`` gets what they stand for."""
    made = []
    for group in groups:
        params = [nn.Parameter(p.detach(), p.requires_grad) for p in group["params"]]
        real.update(zip(params, group["params"], strict=True))
        made.append({**group, "params": params})
    return made


def twins(chain: Chain, state_keys: Collection[str], whole: bool) -> list[Twin]:
    """A twin of every level of a chain.

    Args:
        state_keys: keys of groups that are left to the constructors.
        whole: whether for all parameters; else for the first of each group.
    """
    found: dict[int, Twin] = {}
    with apart(chain):
        for level in reversed(chain):
            real: dict[Tensor, Tensor] = {}
            made = None
            inside = [one for one in levels(level)[1:] if id(one) in found]
            groups = vars(level).get("param_groups") or []
            if inside:
                twin = found[id(inside[0])]
                made, real = (None if twin.made is None else construct(level, twin.made)), twin.real
            elif groups and all(group["params"] for group in groups):
                kept = [{key: value for key, value in group.items() if key not in state_keys} for group in groups]
                some = [group if whole else {**group, "params": group["params"][:1]} for group in kept]
                made = construct(level, stand_ins(some, real))
            found[id(level)] = Twin(made, real)
    return [found[id(level)] for level in chain]
