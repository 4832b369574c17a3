"""Learning-rate schedules that somebody's function makes: started, started anew, and looked at ahead of time."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from filtersmith.common.options import bad_option
from filtersmith.common.said import warn_user
from filtersmith.optim.beside import is_on_a_device, mark_as_ours, schedules_of_others, someone_elses_rate
from filtersmith.optim.groups import Groups, group_options, saved_groups, scheduled
from filtersmith.optim.wrappers import innermost_of, levels

MakeScheduler = Callable[[Optimizer], LRScheduler]
LEAST_AFTER = 0.1
"""Share of a training, counted in learning rate, that has to follow what comes back last.

As in the paper of RePr: 10 of 100 epochs at one rate. Cosine has so much behind six tenths of the epochs.
"""
MOST_STEPS = 1_000_000
"""A schedule of more steps is not looked at ahead of time."""


class Schedules:
    """The schedules of one or several optimizers, all made by one function.

    They belong to the optimizers that a user holds, and reach those inside (`filtersmith.optim.groups`). What sets
    learning rates beside them is warned of, once.

    Args:
        optimizer: one or several, whose learning rates these are.
        make: makes a schedule from an optimizer; ``None``: the rates stay as they are.

    Raises:
        ValueError: ``make`` cannot be called, or makes something that cannot be stepped without a metric or does not
            reach the optimizer that moves the weights.
    """

    def __init__(self, optimizer: Any, make: MakeScheduler | None) -> None:
        if make is not None and not callable(make):
            raise bad_option("scheduler", type(make).__name__, "a function that makes one from the optimizer")
        self._groups = [Groups(one) for one in scheduled(optimizer)]
        self._make = make
        self._warned = False
        self._steps = 0
        self._set: list[list[Any]] = []  # the rates that were set last
        self.made: tuple[LRScheduler, ...] = ()

    def start(self) -> None:
        """Make the schedules, anew where there are some; they start from the rates that the optimizers have now."""
        if self._make is None:
            return
        self._refuse_unreached()
        if not self.made and (others := schedules_of_others([groups.optimizer for groups in self._groups])):
            self._warn(
                f"the optimizer has a schedule already ({', '.join(others)}), beside scheduler=; together they give "
                "a schedule that nobody asked for: leave one of the two out"
            )
        put_back = saved_groups([groups.optimizer for groups in self._groups])
        try:
            for groups in self._groups:
                groups.forget("initial_lr")  # else the schedule would start from the last one's
            self.made = tuple(_made(self._make, groups) for groups in self._groups)
        except BaseException:
            put_back()
            raise
        self._remember()

    def start_anew(self, options: Sequence[Sequence[Mapping[str, Any]]], forget: Callable[[], None]) -> None:
        """As with new optimizers: the groups with the given options, no state, and new schedules.

        Args:
            options: of the groups of each optimizer.
            forget: makes the optimizers what they were at the beginning, but for their options.
        """
        self._look()
        for groups, own in zip(self._groups, options, strict=True):
            groups.write(own)
        forget()
        self.start()

    def step(self) -> None:
        """One step of every schedule."""
        self._look()
        for groups, scheduler in zip(self._groups, self.made, strict=False):
            with groups.passed_on():
                scheduler.step()
        self._remember()

    def options(self) -> list[list[dict[str, Any]]]:
        """The options of all groups as they are now: one list for each optimizer."""
        return [groups.options() for groups in self._groups]

    def state_dict(self) -> dict[str, Any]:
        """The schedules' states, and the options of all groups as they are now."""
        return {
            "kinds": [type(scheduler).__name__ for scheduler in self.made],
            "schedulers": [scheduler.state_dict() for scheduler in self.made],
            "groups": self.options(),
        }

    def check(self, state: Mapping[str, Any]) -> None:
        """``ValueError`` where a state is that of other optimizers or schedules."""
        for what, saved, here in (
            ("schedules", state["kinds"], [type(scheduler).__name__ for scheduler in self.made]),
            ("parameter groups", *([len(groups) for groups in of] for of in (state["groups"], self.options()))),
        ):
            if saved != here:
                raise ValueError(f"the state was saved with {what}: {saved}, here are {what}: {here}")

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with saved schedules, from the saved options of all groups.

        Without ``make`` the options are somebody else's, and nothing is written: a state of the optimizer has them,
        and a schedule of the user's may have set the next epoch's already.
        """
        self.check(state)
        if self._make is None:
            return
        for scheduler, saved in zip(self.made, state["schedulers"], strict=True):
            scheduler.load_state_dict(dict(saved))  # CyclicLR takes out of it what it has read
        for groups, options in zip(self._groups, state["groups"], strict=True):
            groups.write(options)
        self._remember()

    def _refuse_unreached(self) -> None:
        for groups in self._groups:
            if (level := groups.unreached()) is not None:
                raise ValueError(
                    f"scheduler must reach {type(level).__name__}, whose learning rates "
                    f"{type(groups.optimizer).__name__} around it does not share: hand over the inner one"
                )

    def _remember(self) -> None:
        self._set = [groups.rates() for groups in self._groups]

    def _look(self) -> None:
        """Warn, once, where somebody else has set a learning rate since ours was set."""
        self._steps += 1
        rare = self._steps & (self._steps - 1) == 0  # in steps 1, 2, 4, 8, ... where to look waits for a device
        for groups, scheduler, rates in zip(self._groups, self.made, self._set, strict=False):
            if self._warned or (is_on_a_device(groups.optimizer) and not rare):
                continue
            last = getattr(scheduler, "_last_lr", rates)  # whoever made the flow may step its schedule
            if (found := someone_elses_rate(groups.optimizer, rates, last)) is not None:
                now, was = found
                self._warn(
                    f"a learning rate is {now:g} where scheduler= had set {was:g}: a schedule of your own or of a "
                    "trainer sets it, too (leave one of the two out), or the optimizer's state was loaded without "
                    "that of the method that has scheduler= (load both)"
                )

    def _warn(self, what: str) -> None:
        if not self._warned:
            self._warned = True
            warn_user(what)


def _made(make: MakeScheduler, groups: Groups) -> LRScheduler:
    """A schedule of these groups; ``ValueError`` where it is one of others, as those that a wrapper has inside."""
    optimizer = groups.optimizer
    with groups.passed_on():
        scheduler = _checked(make(optimizer))
    mark_as_ours(scheduler)
    theirs: Any = scheduler.optimizer
    shared = len(theirs.param_groups) == len(optimizer.param_groups) and all(
        one is other for one, other in zip(theirs.param_groups, optimizer.param_groups, strict=True)
    )
    if not shared:
        raise ValueError(
            "scheduler must make a schedule of the optimizer that it is given, got another one's "
            f"({type(theirs).__name__}, for {type(optimizer).__name__})"
        )
    return scheduler


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
    put_back = saved_groups(optimizer)
    stand_in = _stand_in(optimizer)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that no step of the optimizer goes before
            scheduler = _checked(make(stand_in))
            steps = _steps_per_epoch(scheduler, epochs) if by_batch else 1
            if steps is None or steps * epochs > MOST_STEPS or scheduler.optimizer is not stand_in:
                return None
            by_group = _stepped(scheduler, stand_in, epochs * steps)
    except AttributeError:
        if len(levels(optimizer)) > 1:
            return None  # it may ask for what is inside a wrapper, which a stand-in has not
        raise
    finally:
        put_back()  # of a function that makes schedules of the optimizer that it knows itself
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
    inside = innermost_of(optimizer)
    kind = type(inside[0]) if len(inside) == 1 else Optimizer
    stand_in: Optimizer = object.__new__(kind)  # of the class of what is wrapped, for functions that ask for it
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
