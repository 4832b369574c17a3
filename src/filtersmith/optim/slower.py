"""Steps with a fraction of the learning rate that the schedule says, which does not come to know of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from filtersmith.optim.wrappers import innermost_of, step_runs


class SlowedSteps:
    """Multiplies the learning rates for the time of each step.

    Args:
        optimizer: one or several.
        factor: on every group's rate.
        when: asked before each step whether it is slowed.
    """

    def __init__(self, optimizer: Any, factor: float, when: Callable[[], bool]) -> None:
        self._optimizers = innermost_of(optimizer)
        self._factor, self._when = factor, when
        self._under_way: dict[Optimizer, list[list[Rate]]] = {}  # one list for each step that is under way
        self._hooks: list[RemovableHandle] = []
        self.attach()

    def attach(self) -> None:
        """Put the hooks on, where there are none."""
        if not self._hooks:
            for optimizer in self._optimizers:
                self._hooks += [
                    optimizer.register_step_pre_hook(self._before),
                    optimizer.register_step_post_hook(self._after),
                ]

    def detach(self) -> None:
        """Take the hooks off; the rates are what the schedule says."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        for optimizer in self._optimizers:
            self._put_back(optimizer)

    @torch.no_grad()
    def _before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        under_way = self._under_way.setdefault(optimizer, [])
        if under_way and step_runs(optimizer):
            under_way.append([])  # a subclass's step that calls its parent's: slowed already
            return
        self._put_back(optimizer)  # of a step that raised
        slower = [Rate(group, self._factor) for group in _groups(optimizer)] if self._when() else []
        self._under_way[optimizer] = [slower]

    @torch.no_grad()
    def _after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        under_way = self._under_way.get(optimizer)
        for rate in under_way.pop() if under_way else ():
            rate.put_back()

    def _put_back(self, optimizer: Optimizer) -> None:
        for rates in self._under_way.pop(optimizer, []):
            for rate in rates:
                rate.put_back()


class Rate:
    """A group's learning rate, multiplied for one step."""

    def __init__(self, group: dict[str, Any], factor: float) -> None:
        self._group, self._now = group, group["lr"]
        if isinstance(self._now, Tensor):
            self._before: Any = self._now.clone()
            self._now.mul_(factor)  # compiled and captured optimizers hold on to the tensor itself
            self._scaled: Any = self._now.clone()
        else:
            self._before = self._now
            self._scaled = group["lr"] = self._now * factor

    def put_back(self) -> None:
        """The very value from before, unless somebody set another one since (after a step that raised)."""
        if isinstance(self._now, Tensor):
            self._now.copy_(torch.where(self._now == self._scaled, self._before, self._now))
        elif self._group["lr"] == self._scaled:
            self._group["lr"] = self._before


def _groups(optimizer: Optimizer) -> list[dict[str, Any]]:
    """The groups that have a learning rate; one of those that share a tensor, which torch makes of a default."""
    tensors = {id(group["lr"]): group for group in optimizer.param_groups if isinstance(group.get("lr"), Tensor)}
    numbers = [g for g in optimizer.param_groups if "lr" in g and not isinstance(g["lr"], Tensor)]
    return [*tensors.values(), *numbers]
