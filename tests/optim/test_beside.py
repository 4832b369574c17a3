"""A second schedule beside ours is said, once; one that is not there is not."""

from __future__ import annotations

import copy
import gc
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from reference.wrappers import SAM, Apart
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim import lr_scheduler as lr
from torch.optim.lr_scheduler import LRScheduler

from filtersmith.optim.beside import schedules_of_others, someone_elses_rate
from filtersmith.optim.lr import Schedules
from filtersmith.optim.slower import Rate

pytestmark = pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")


def sgd(*rates: Any) -> SGD:
    return SGD([{"params": [nn.Parameter(torch.ones(2))], "lr": rate} for rate in rates or (0.2,)], momentum=0.9)


def halving(optimizer: Optimizer) -> LRScheduler:
    return lr.ExponentialLR(optimizer, 0.5)


def warm(optimizer: Optimizer) -> LRScheduler:
    first, second = lr.LinearLR(optimizer, 0.1, total_iters=2), lr.CosineAnnealingLR(optimizer, 3)
    return lr.SequentialLR(optimizer, [first, second], [2])


def said(run: Callable[[], Any]) -> list[str]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        run()
    return [str(one.message) for one in found if "lr_scheduler.step()" not in str(one.message)]


def slowed(optimizer: Optimizer) -> None:
    """With a tenth of the rate for the time of each step, as DSD's."""
    rates: list[Rate] = []
    optimizer.register_step_pre_hook(lambda o, *_: rates.extend(Rate(group, 0.1) for group in o.param_groups))
    optimizer.register_step_post_hook(lambda *_: [rates.pop().put_back() for _ in list(rates)] and None)


# --- when ours is made ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("wrap", [lambda o: o, lambda o: SAM(o.param_groups, lr=0.1)])
def test_a_schedule_that_is_there_already(wrap: Any, outside: bool) -> None:
    optimizer = wrap(sgd())
    theirs = lr.CosineAnnealingLR(optimizer if outside else getattr(optimizer, "base_optimizer", optimizer), 6)
    ours = Schedules(optimizer, halving)
    found = said(ours.start)
    assert len(found) == 1
    assert found[0].startswith("the optimizer has a schedule already (CosineAnnealingLR), beside scheduler=; ")
    assert "\n" not in found[0]
    optimizer.step()
    theirs.step()
    assert said(ours.step) == [], "once is enough"
    assert said(ours.start) == []


def test_what_is_left_of_one_is_none() -> None:
    """Its mark on the optimizer, its rate in the groups; also of one of a state that was loaded."""
    optimizer = sgd()
    halving(optimizer)
    gc.collect()
    assert said(Schedules(optimizer, halving).start) == []
    other = sgd()
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert "initial_lr" in other.param_groups[0]
    assert said(Schedules(other, halving).start) == []


def test_neither_is_one_of_ours_or_of_another_optimizer() -> None:
    optimizer, other = sgd(), sgd()
    theirs = halving(other)
    first = Schedules(optimizer, warm)
    first.start()
    assert said(Schedules(optimizer, halving).start) == []
    assert schedules_of_others([other]) == ["ExponentialLR"]
    assert (theirs.last_epoch, len(first.made)) == (0, 1)


# --- when ours steps -----------------------------------------------------------------------------------------


def by_hand(optimizer: Optimizer) -> Callable[[], None]:
    def halve() -> None:
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * 0.5

    return halve


def of_timm(optimizer: Optimizer) -> Callable[[], None]:
    scheduler = pytest.importorskip("timm.scheduler").CosineLRScheduler(optimizer, t_initial=9)
    epochs = iter(range(1, 9))
    return lambda: scheduler.step(next(epochs))


def made_later(optimizer: Optimizer) -> Callable[[], None]:
    scheduler = lr.StepLR(optimizer, 1, gamma=0.3)
    return scheduler.step


@pytest.mark.parametrize("rate", [0.2, torch.tensor(0.2)])
@pytest.mark.parametrize("make", [by_hand, of_timm, made_later])
@pytest.mark.parametrize("anew", [False, True])
def test_what_sets_rates_beside_it(make: Any, rate: Any, anew: bool) -> None:
    optimizer = AdamW([nn.Parameter(torch.ones(2))], lr=rate if isinstance(rate, float) else rate.clone())
    ours = Schedules(optimizer, halving)
    initial = ours.options()
    ours.start()
    theirs = make(optimizer)
    found = []
    for _ in range(4):
        theirs()
        found += said(lambda: ours.start_anew(initial, lambda: None) if anew else ours.step())
    assert len(found) == 1
    assert "where scheduler= had set 0.2: a schedule of your own or of a trainer sets it, too" in found[0]


def test_of_several_optimizers_the_second_is_looked_at_too() -> None:
    optimizers = sgd(), sgd(0.2, 0.1)
    ours = Schedules(optimizers, halving)
    ours.start()
    assert said(ours.step) == []
    optimizers[1].param_groups[1]["lr"] = 5.0
    assert "a learning rate is 5 where scheduler= had set 0.05" in said(ours.step)[0]


MAKERS: dict[str, Callable[[Any], LRScheduler]] = {
    "one cycle": lambda o: lr.OneCycleLR(o, [0.3] * len(o.param_groups), total_steps=30),
    "sequential": warm,
    "chained": lambda o: lr.ChainedScheduler([lr.ConstantLR(o, 0.1, 2), lr.ExponentialLR(o, 0.9)]),
    "warm restarts": lambda o: lr.CosineAnnealingWarmRestarts(o, 2),
    "lambda": lambda o: lr.LambdaLR(o, lambda n: 1 / (1 + n)),
    "cyclic": lambda o: lr.CyclicLR(o, 0.01, 0.2, step_size_up=2),
    "polynomial": lambda o: lr.PolynomialLR(o, 6),
}


@pytest.mark.parametrize("name", MAKERS)
def test_nothing_is_said_in_a_training_that_is_resumed_and_starts_anew(name: str) -> None:
    """With slowed steps, rates that are tensors, a group that comes later, a state in any order, the user's steps."""

    def set_up() -> tuple[list[Optimizer], Schedules, list[Any]]:
        optimizers: list[Optimizer] = [sgd(0.4, 0.2), sgd(torch.tensor(0.1))]
        for optimizer in optimizers:
            slowed(optimizer)
        ours = Schedules(optimizers, MAKERS[name])
        initial = ours.options()
        ours.start()
        return optimizers, ours, initial

    def some(optimizers: list[Optimizer], ours: Schedules) -> None:
        for _ in range(5):
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    for parameter in group["params"]:
                        parameter.grad = torch.ones_like(parameter)
                optimizer.step()
            ours.step()

    def run() -> None:
        optimizers, ours, initial = set_up()
        some(optimizers, ours)
        ours.start_anew(initial, lambda: None)
        some(optimizers, ours)
        for scheduler in ours.made:
            scheduler.step()  # a loop that steps what was made itself
        state = copy.deepcopy([ours.state_dict(), *(o.state_dict() for o in optimizers)])
        for late in (False, True):
            again, resumed, initial = set_up()
            for load in ((0, 1), (1, 0))[late]:
                if load:
                    resumed.load_state_dict(state[0])
                else:
                    for optimizer, saved in zip(again, state[1:], strict=True):
                        optimizer.load_state_dict(copy.deepcopy(saved))
            some(again, resumed)
            resumed.start_anew(initial, lambda: None)
            some(again, resumed)

    assert said(run) == []


def test_a_state_of_the_optimizer_alone_is_said() -> None:
    """A resume without the schedule's state: it would go on from its start."""
    optimizer, other = sgd(), sgd()
    ours = Schedules(optimizer, halving)
    ours.start()
    ours.step()
    resumed = Schedules(other, halving)
    resumed.start()
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert "the optimizer's state was loaded without that of the method that has scheduler=" in said(resumed.step)[0]


def test_a_group_that_came_later_is_not_looked_at() -> None:
    optimizer = sgd(0.2)
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))], "lr": 0.7})
    assert someone_elses_rate(optimizer, [0.2]) is None
    assert someone_elses_rate(optimizer, [0.3], [0.2]) is None
    assert someone_elses_rate(optimizer, [0.3, 0.7]) == (0.2, 0.3)
    assert someone_elses_rate(Apart([nn.Parameter(torch.ones(1))], lr=0.1)) is None
