"""A second schedule beside one of ours: looked for when ours is made, and seen at the rates when ours steps."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from weakref import WeakSet

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from filtersmith.optim.wrappers import levels

_ours: WeakSet[LRScheduler] = WeakSet()


def mark_as_ours(scheduler: LRScheduler) -> None:
    """So that neither it nor a schedule inside it (SequentialLR) is taken for somebody else's later."""
    if scheduler not in _ours:
        _ours.add(scheduler)
        for value in vars(scheduler).values():
            for one in value if isinstance(value, (list, tuple)) else (value,):
                if isinstance(one, LRScheduler):
                    mark_as_ours(one)


def schedules_of_others(optimizers: Iterable[Optimizer]) -> list[str]:
    """The kinds of the schedules that somebody else made for these optimizers, or for what they wrap, and still has.

    torch leaves marks at an optimizer that has, or once had, a schedule (as a loaded state does); only where there
    are some are the objects in memory looked through for one that is still there.
    """
    every = [level for optimizer in optimizers for level in levels(optimizer)]
    groups = [group for level in every for group in getattr(level, "param_groups", ())]
    stepped = any(hasattr(getattr(level, "step", None), "_wrapped_by_lr_sched") for level in every)
    if not stepped and not any("initial_lr" in group for group in groups):
        return []
    mine = {*map(id, every), *map(id, groups)}
    if not _kinds_in_memory(mine):
        return []
    gc.collect()  # those that were dropped: too slow to begin with
    return sorted(_kinds_in_memory(mine))


def _kinds_in_memory(optimizers: set[int]) -> set[str]:
    """The kinds of the schedules, not of ours, of optimizers or groups with these ids."""
    kinds = set(map(id, _subclasses(LRScheduler)))  # looking up takes a third of the time of issubclass
    found = [one for one in gc.get_objects() if id(type(one)) in kinds and one not in _ours]
    return {type(one).__name__ for one in found if optimizers & _ids(getattr(one, "optimizer", None))}


def _subclasses(cls: type[Any]) -> Iterator[type[Any]]:
    yield cls
    for one in cls.__subclasses__():
        yield from _subclasses(one)


def someone_elses_rate(optimizer: Optimizer, *ours: Sequence[Any]) -> tuple[float, float] | None:
    """A group's learning rate that none of our records has, and what was set; ``None`` where all are ours.

    Args:
        optimizer: whose groups are looked at; those that a record does not cover were added since.
        ours: records of the rates of all groups, any of which may be right.
    """
    now = [float(group.get("lr", 0.0)) for group in optimizer.param_groups]
    wrong = []
    for rates in ours:
        pairs = [(rate, float(was)) for rate, was in zip(now, rates, strict=False)]
        strange = [pair for pair in pairs if not math.isclose(*pair, rel_tol=1e-5, abs_tol=1e-30)]
        if not strange:
            return None
        wrong.append(strange[0])
    return wrong[0] if wrong else None


def is_on_a_device(optimizer: Optimizer) -> bool:
    """Whether reading a learning rate waits for an accelerator."""
    rates = [group.get("lr") for group in optimizer.param_groups]
    return any(isinstance(rate, Tensor) and rate.device.type != "cpu" for rate in rates)


def _ids(optimizer: Any) -> set[int]:
    return {id(optimizer), *map(id, getattr(optimizer, "param_groups", None) or ())}
