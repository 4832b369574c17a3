"""What stands around an optimizer: the wrappers of it, and which of them has its parameters and groups.

A wrapper is an object that has an optimizer as an attribute (accelerate, Lightning, ZeroRedundancyOptimizer, SAM,
Lookahead), or several. Schedules and parameter groups belong to the outermost optimizer, which its user holds
(`filtersmith.optim.groups`); state belongs to the innermost ones, whose steps move the weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

_NAMES = ("optimizer", "optim", "base_optimizer")
"""Where wrappers have what they wrap, also where that is a property or itself no optimizer."""

_NOT_THERE = ("state", "param_groups", "defaults")
"""Where no optimizer is, and much else."""


def levels(optimizer: Any) -> tuple[Any, ...]:
    """A wrapper, what it wraps, and so on to the innermost optimizers; an optimizer alone where nothing is wrapped.

    Raises:
        ValueError: it is no optimizer, and there is none inside.
    """
    found = tuple({id(level): level for level in _levels(optimizer, ())}.values())
    if not found or not any(isinstance(level, Optimizer) for level in found):
        raise ValueError(f"optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}")
    return found


def innermost_of(optimizer: Any) -> tuple[Optimizer, ...]:
    """The optimizers whose steps move the weights: of one, or of a list or tuple of several."""
    every = [inner for one in given_optimizers(optimizer) for inner in _innermost_of(one)]
    if len({id(inner) for inner in every}) < len(every):
        raise ValueError("optimizer must be different optimizers, got one of them twice")
    return tuple(every)


def given_optimizers(optimizer: Any) -> list[Any]:
    """Those that were given, as a list. ``ValueError`` where there is none."""
    given = list(optimizer) if isinstance(optimizer, (list, tuple)) else [optimizer]
    if not given:
        raise ValueError("optimizer must be a torch.optim.Optimizer or several, got none")
    return given


def groups_of(optimizer: Any) -> list[dict[str, Any]]:
    """All parameter groups of one optimizer or several, as the outermost that has some shows them."""
    found = []
    for one in given_optimizers(optimizer):
        shown = getattr(one, "param_groups", None)
        if not isinstance(shown, list):
            levels(one)  # refuses what is no optimizer
            shown = [group for inner in _wrapped_by(one) for group in groups_of(inner)]
        found += shown
    return found


def owned_by(optimizer: Any) -> set[int]:
    """The parameters, by id, that one optimizer or several have."""
    return {id(parameter) for group in groups_of(optimizer) for parameter in group["params"]}


def _levels(candidate: Any, above: tuple[int, ...]) -> Iterator[Any]:
    """``candidate`` and what is inside, if it is an optimizer or has one; ``above`` by id: what it is inside of."""
    inside = [
        level
        for one in _wrapped_by(candidate)
        if id(one) not in above and one is not candidate
        for level in _levels(one, (*above, id(candidate)))
    ]
    if inside or isinstance(candidate, Optimizer):
        yield candidate
        yield from inside


def _wrapped_by(candidate: Any) -> list[Any]:
    """What an object has that is, or may have, an optimizer."""
    if isinstance(candidate, (type, nn.Module, LRScheduler)):
        return []
    named = [value for name in _NAMES if callable(getattr(value := getattr(candidate, name, None), "step", None))]
    attributes = getattr(candidate, "__dict__", {}).items()
    may_hold = [value for name, value in attributes if name not in _NOT_THERE and not name.startswith("_optimizer_")]
    held = [one for value in may_hold if not isinstance(value, (str, int, float)) for one in _each(value)]
    return list({id(one): one for one in (*named, *(one for one in held if isinstance(one, Optimizer)))}.values())


def _each(value: Any) -> Iterable[Any]:
    if isinstance(value, (list, tuple)):
        return value
    return value.values() if isinstance(value, dict) else (value,)


def _innermost_of(optimizer: Any) -> list[Optimizer]:
    """The innermost levels: those that wrap nothing."""
    found = levels(optimizer)
    inner = [level for level in found if isinstance(level, Optimizer) and len(levels(level)) == 1]
    return inner or [next(level for level in reversed(found) if isinstance(level, Optimizer))]
