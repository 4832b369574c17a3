"""Learning-rate schedules that somebody's function makes: started, started anew, and looked at ahead of time."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from filtersmith.common.options import bad_option
from filtersmith.optim.wrappers import innermost

MakeScheduler = Callable[[Optimizer], LRScheduler]
LEAST_AFTER = 0.1
"""Share of a training, counted in learning rate, that has to follow what comes back last.

As in the paper of RePr: 10 of 100 epochs at one rate. Cosine has so much behind six tenths of the epochs.
"""
MOST_STEPS = 1_000_000
"""A schedule of more steps is not looked at ahead of time."""


def group_options(group: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter group's own options (learning rate, momentum, decay), tensors copied, without its parameters."""
    own = {k: v for k, v in group.items() if k not in ("params", "param_names")}
    return {k: v.clone() if isinstance(v, Tensor) else v for k, v in own.items()}


def set_group_options(group: dict[str, Any], options: Mapping[str, Any]) -> None:
    """Write what `group_options` gave back into a group; tensors keep being the objects that they are."""
    for key, value in options.items():
        if isinstance(group.get(key), Tensor):
            group[key].copy_(torch.as_tensor(value))  # compiled and captured optimizers hold on to the tensor itself
        else:
            group[key] = value.clone() if isinstance(value, Tensor) else value


def restore_groups(optimizer: Optimizer, before: Sequence[Mapping[str, Any]]) -> None:
    """Give all groups of an optimizer the options that `group_options` saw before; groups that were added go."""
    del optimizer.param_groups[len(before) :]  # those that were added since
    for group, options in zip(optimizer.param_groups, before, strict=True):
        for key in group_options(group).keys() - options.keys():
            del group[key]
        set_group_options(group, options)


class Schedules:
    """The schedules of one or several optimizers, all made by one function.

    Args:
        optimizers: whose learning rates.
        make: makes a schedule from an optimizer; ``None``: the rates stay as they are.

    Raises:
        ValueError: ``make`` cannot be called, or makes something that cannot be stepped without a metric.
    """

    def __init__(self, optimizers: Sequence[Optimizer], make: MakeScheduler | None) -> None:
        if make is not None and not callable(make):
            raise bad_option("scheduler", type(make).__name__, "a function that makes one from the optimizer")
        self._optimizers = tuple(optimizers)
        self._make = make
        self.made: tuple[LRScheduler, ...] = ()

    def start(self) -> None:
        """Make the schedules, anew where there are some; they start from the rates that the optimizers have now."""
        if self._make is None:
            return
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group.pop("initial_lr", None)  # else the schedule would start from the last one's
        made = []
        for optimizer in self._optimizers:
            scheduler = _checked(self._make(optimizer))
            if innermost(scheduler.optimizer) is not optimizer:
                raise ValueError(
                    "scheduler must make a schedule of the optimizer that it is given, got another one's"
                )
            made.append(scheduler)
        self.made = tuple(made)

    def step(self) -> None:
        """One step of every schedule."""
        for scheduler in self.made:
            scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        """The schedules' states, and the options of all groups as they are now."""
        return {
            "kinds": [type(scheduler).__name__ for scheduler in self.made],
            "schedulers": [scheduler.state_dict() for scheduler in self.made],
            "groups": [[group_options(group) for group in o.param_groups] for o in self._optimizers],
        }

    def check(self, state: Mapping[str, Any]) -> None:
        """``ValueError`` where a state is that of other optimizers or schedules."""
        for what, saved, here in (
            ("schedules", state["kinds"], [type(scheduler).__name__ for scheduler in self.made]),
            ("parameter groups", [len(groups) for groups in state["groups"]], self._group_counts()),
        ):
            if saved != here:
                raise ValueError(f"the state was saved with {what}: {saved}, here are {what}: {here}")

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with saved schedules, from the saved rates."""
        self.check(state)
        for scheduler, saved in zip(self.made, state["schedulers"], strict=True):
            scheduler.load_state_dict(saved)
        for optimizer, groups in zip(self._optimizers, state["groups"], strict=True):
            for group, options in zip(optimizer.param_groups, groups, strict=True):
                set_group_options(group, options)

    def _group_counts(self) -> list[int]:
        return [len(optimizer.param_groups) for optimizer in self._optimizers]


def _checked(scheduler: Any) -> LRScheduler:
    if isinstance(scheduler, ReduceLROnPlateau):
        raise ValueError(
            "scheduler must make a schedule that is stepped without a metric, got ReduceLROnPlateau: leave scheduler "
            "out and step your own"
        )
    if not isinstance(scheduler, LRScheduler):
        raise bad_option("scheduler", type(scheduler).__name__, "a function that makes a torch LRScheduler")
    return scheduler


def rates_ahead(optimizer: Optimizer, make: MakeScheduler, epochs: int, by_batch: bool) -> list[float] | None:
    """The highest learning rate of each epoch as a share of the highest of all; ``None`` where nobody can know.

    Of several groups the lowest share, epoch by epoch.

    The schedule is made for a stand-in of the optimizer, which has its groups and no parameters to move. A schedule
    by the batch has to say how long it is: by an attribute ``steps_per_epoch``, or as OneCycleLR and
    CosineAnnealingLR do.

    Returns:
        One number an epoch, or ``None``.
    """
    before = [group_options(group) for group in optimizer.param_groups]
    stand_in = _stand_in(optimizer)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that no step of the optimizer goes before
            scheduler = _checked(make(stand_in))
            steps = _steps_per_epoch(scheduler, epochs) if by_batch else 1
            if steps is None or steps * epochs > MOST_STEPS or scheduler.optimizer is not stand_in:
                return None
            by_group = _stepped(scheduler, stand_in, epochs * steps)
    finally:
        restore_groups(optimizer, before)  # of a function that makes schedules of the optimizer that it knows itself
    shares = []
    for rates in by_group:
        by_epoch = [max(rates[n * steps : (n + 1) * steps]) for n in range(epochs)]
        if (highest := max(by_epoch)) > 0:
            shares.append([rate / highest for rate in by_epoch])
    return [min(of_groups) for of_groups in zip(*shares, strict=True)] if shares else None


def _stepped(scheduler: LRScheduler, optimizer: Optimizer, steps: int) -> list[list[float]]:
    """The learning rates of each group in each step."""
    if type(scheduler) is LambdaLR:  # what it computes is known: thousands of times faster
        known = zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
        return [[float(base) * factor(step) for step in range(steps)] for base, factor in known]
    rates: list[list[float]] = [[] for _ in optimizer.param_groups]
    for step in range(steps):
        for of_group, group in zip(rates, optimizer.param_groups, strict=True):
            of_group.append(float(group["lr"]))
        if step + 1 < steps:
            scheduler.step()
    return rates


def _stand_in(optimizer: Optimizer) -> Optimizer:
    groups = []
    for group in optimizer.param_groups:
        options = group_options(group)
        if "initial_lr" in options:  # of a run that is resumed
            options["lr"] = options.pop("initial_lr")
        groups.append({**options, "params": [torch.nn.Parameter(torch.zeros(()))]})
    stand_in: Optimizer = object.__new__(type(optimizer))  # of its class, for functions that ask for it
    Optimizer.__init__(stand_in, groups, dict(optimizer.defaults))
    return stand_in


def _steps_per_epoch(scheduler: Any, epochs: int) -> int | None:
    if (steps := getattr(scheduler, "steps_per_epoch", None)) is not None:
        return max(1, int(steps))
    total = getattr(scheduler, "total_steps", None) or getattr(scheduler, "T_max", None)
    return None if total is None or total < epochs or total % epochs else int(total) // epochs


def share_after(epoch: int, rates: Sequence[float]) -> float:
    """How much of a training comes after so many epochs, counted in learning rate.

    >>> share_after(3, [1.0, 0.5, 0.4, 0.1])
    0.05
    """
    total = math.fsum(rates)
    return math.fsum(rates[epoch:]) / total if total > 0 else 0.0


def is_enough(share: float) -> bool:
    """Whether what comes back is still trained, with such a share of the training to follow: `LEAST_AFTER`."""
    return share >= LEAST_AFTER * (1 - 1e-6)


def useful_epochs(epochs: int, rates: Sequence[float] | None) -> int:
    """How many epochs may pass so that what comes back then is still trained: `LEAST_AFTER` follows.

    Rates that are unknown count as constant. At least one epoch, and one follows where there are two.

    >>> useful_epochs(4, [1.0, 0.5, 0.2, 0.05]), useful_epochs(100, None)
    (2, 90)
    """
    known = [1.0] * epochs if rates is None else rates
    return max([epoch for epoch in range(1, epochs) if is_enough(share_after(epoch, known))], default=1)
