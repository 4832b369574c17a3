"""Steps with a fraction of the learning rate that the schedule says, which does not come to know of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from filtersmith.optim.steps import SLOWED, Steps
from filtersmith.optim.wrappers import innermost_of, levels


class SlowedSteps:
    """Multiplies the learning rates for the time of each step.

    Args:
        name: of the method, for warnings.
        optimizer: one or several.
        factor: on every group's rate.
        when: asked before each step whether it is slowed.
    """

    def __init__(self, name: str, optimizer: Any, factor: float, when: Callable[[], bool]) -> None:
        self._optimizer = optimizer
        self._factor, self._when = factor, when
        self._slowed: dict[int, list[Rate]] = {}  # by the id of what steps
        self._steps = Steps(name, SLOWED, before=self._before, after=self._after, none=self._after)
        self._handles: list[RemovableHandle] = []
        self.attach()

    def attach(self) -> None:
        """Slow the steps, if they are not yet."""
        if not self._steps.optimizers:
            self._steps.attach(self._optimizer)
            for inner in innermost_of(self._optimizer):
                self._handles.append(inner.register_state_dict_pre_hook(self._before_saving))
                self._handles.append(inner.register_state_dict_post_hook(self._after_saving))

    def detach(self) -> None:
        """Slow them no more; the rates are what the schedule says."""
        self._steps.detach()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        for level in list(self._slowed):  # of a step that raised
            self._put_back(level)

    def _before(self, level: Any) -> None:
        self._put_back(id(level))
        self._slowed[id(level)] = [Rate(group, self._factor) for group in _groups(level)] if self._when() else []

    def _after(self, level: Any) -> None:
        self._put_back(id(level))

    def _before_saving(self, optimizer: Optimizer) -> None:
        """What is saved has the schedule's rates, also in a step, or after one that raised (an interrupt)."""
        for rate in (rate for rates in self._slowed.values() for rate in rates):
            rate.put_back()

    def _after_saving(self, optimizer: Optimizer, state: dict[str, Any]) -> None:
        for group in state["param_groups"] if self._slowed else ():
            if isinstance(group.get("lr"), Tensor):
                group["lr"] = group["lr"].clone()  # torch hands out the very tensor
        self._slowed = {
            level: [Rate(rate.group, self._factor) for rate in rates] for level, rates in self._slowed.items()
        }

    def _put_back(self, level: int) -> None:
        for rate in self._slowed.pop(level, ()):
            rate.put_back()


class Rate:
    """A group's learning rate, multiplied for one step."""

    def __init__(self, group: dict[str, Any], factor: float) -> None:
        self.group: dict[str, Any] = group
        self._now = group["lr"]
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
        elif self.group["lr"] == self._scaled:
            self.group["lr"] = self._before


def _groups(optimizer: Any) -> list[dict[str, Any]]:
    """The groups that have a learning rate, of a wrapper and of what is inside, which may have copies of them.

    One of those that share a tensor, which torch makes of a default.
    """
    every = {
        id(g): g for level in levels(optimizer) for g in getattr(level, "param_groups", ()) if "lr" in g
    }.values()
    tensors = {id(group["lr"]): group for group in every if isinstance(group["lr"], Tensor)}
    return [*tensors.values(), *(group for group in every if not isinstance(group["lr"], Tensor))]
