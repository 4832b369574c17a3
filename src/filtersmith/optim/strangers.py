"""Optimizers that a method was not given, and whose steps would move what it keeps still."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakMethod

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle

from filtersmith.optim.wrappers import owned_by


class Strangers:
    """Tells of an optimizer that has some of the parameters that are watched, at the begin of its step.

    Only torch's hooks for all optimizers of a process know of it. They are there only while something is watched that
    no optimizer has which the method was given; mostly, nothing is.

    Args:
        met: a method, called with the optimizer before the hooks on that are; it attaches to it, and watches anew.
    """

    def __init__(self, met: Callable[[Optimizer], None]) -> None:
        self._met = WeakMethod(met)
        self._watched = frozenset[int]()
        self._handle: RemovableHandle | None = None

    def watch(self, parameters: Iterable[Tensor], optimizer: Any) -> None:
        """Watch those of the parameters that ``optimizer``, one or several, does not have, and no others."""
        owned = owned_by(optimizer)
        self._watched = frozenset(id(parameter) for parameter in parameters) - owned
        if self._watched and self._handle is None:
            self._handle = register_optimizer_step_pre_hook(self._before)

    def stop(self) -> None:
        """Watch nothing; not to be called at the begin of a step, where torch goes through these hooks."""
        self._watched = frozenset()
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def _before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        met = self._met()
        if met is not None and not self._watched.isdisjoint(owned_by(optimizer)):
            met(optimizer)
