"""Being told of each step once, with all that is inside, in the right order, whatever it is called by."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from typing import Any

import pytest
import torch
from reference.nets import Decaying
from reference.stepping import SAM, told_of, weight
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from filtersmith.optim.steps import AVERAGED, COUNTED, HELD, SLOWED, ZEROS, Steps


def test_a_step_is_told_of_once_with_all_that_is_inside() -> None:
    for make in (SGD, Decaying, SAM):
        optimizer = make([weight()])
        told, _ = told_of(optimizer)
        for _ in range(2):
            optimizer.step()
        assert told == [("before", optimizer), ("after", optimizer)] * 2, make


def test_the_optimizer_inside_may_be_stepped_alone() -> None:
    sam = SAM([weight()])
    told, _ = told_of(sam)
    sam.second_step()
    assert told == [("before", sam.base_optimizer), ("after", sam.base_optimizer)]


def test_a_wrappers_step_without_one_inside_is_none() -> None:
    sam = SAM([weight()], skip=True)
    told, _ = told_of(sam)
    sam.step()
    assert told == [("before", sam), ("none", sam)]


def test_accumulation_of_accelerate_is_none() -> None:
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
    module = nn.Linear(2, 2)
    optimizer = SGD(module.parameters(), lr=0.1)
    module, wrapped = accelerator.prepare(module, optimizer)
    told, _ = told_of(wrapped)
    for n in range(4):
        with accelerator.accumulate(module):
            accelerator.backward(module(torch.ones(1, 2)).sum())
            wrapped.step()
            wrapped.zero_grad()
        assert told == [("before", optimizer), ("after", optimizer)] * ((n + 1) // 2)


class Slow(Optimizer):
    """Moves the weights again after the step of the optimizer inside. It calls no hooks, nor torch's constructor."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer, self.param_groups, self.state = optimizer, optimizer.param_groups, {}

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = self.optimizer.step(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.mul_(0.5)
        return loss


def test_a_wrapper_that_calls_no_hooks_ends_the_step_of_what_is_inside() -> None:
    parameter = weight()
    inner, seen = SGD([parameter], lr=0.5), []
    slow, other = Slow(inner), Slow(SGD([weight()]))
    steps = Steps("WAU", HELD, after=lambda level: seen.append((level, parameter.tolist())))
    steps.attach(slow)
    torch.optim.lr_scheduler.StepLR(inner, 1)  # which changes the step of the inner one
    slow.step()
    assert seen == [(inner, [0.25, 0.25])]
    with pytest.raises(ZeroDivisionError):
        slow.step(lambda: 1 / 0)
    slow.step()
    assert len(seen) == 2
    other.step()
    steps.detach()
    slow.step()
    assert "step" not in vars(slow)
    assert len(seen) == 2
    steps.attach(slow)
    slow.step()
    assert len(seen) == 3


def test_an_optimizer_whose_constructor_did_not_call_torchs() -> None:
    timm = pytest.importorskip("timm.optim")
    parameter = weight()
    lookahead = timm.Lookahead(SGD([parameter], lr=0.1), k=2)
    told, _ = told_of(lookahead)
    lookahead.step()  # before any zero_grad(), which would mend it
    assert told == [("before", lookahead), ("after", lookahead)]


@pytest.mark.parametrize("make", [SGD, Decaying, SAM])
def test_a_step_that_raised_is_none_and_the_next_one_is_one(make: Any) -> None:
    optimizer = make([weight()])
    told, _ = told_of(optimizer)
    with pytest.raises(ZeroDivisionError):
        optimizer.step(lambda: 1 / 0)
    optimizer.step()
    whole = [("before", optimizer), ("after", optimizer)]
    assert told == [("before", optimizer), ("none", optimizer), *whole]


def test_an_inner_step_that_raised_and_was_caught_leaves_the_outer_one_whole() -> None:
    sam = SAM([weight()])
    told, _ = told_of(sam)

    def closure() -> None:
        with pytest.raises(ZeroDivisionError):
            sam.base_optimizer.step(lambda: 1 / 0)

    sam.step(closure)
    assert told == [("before", sam), ("after", sam)]


def test_steps_of_another_optimizer_in_a_closure_are_its_own() -> None:
    outer, inner = SGD([weight()]), SGD([weight()])
    told, steps = told_of(outer)
    steps.attach(inner)
    outer.step(lambda: inner.step() or torch.zeros(()))
    assert told == [("before", outer), ("before", inner), ("after", inner), ("after", outer)]


@pytest.mark.parametrize("finite", [True, False])
def test_what_a_scaler_skips_is_none(finite: bool) -> None:
    for fused in (False, True):
        optimizer = Adam([parameter := weight()], lr=0.1, fused=fused)
        told, _ = told_of(optimizer)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
        optimizer.zero_grad()
        scaler.scale((parameter * (1.0 if finite else torch.inf)).sum()).backward()
        scaler.step(optimizer)
        assert [what for what, _ in told] == (["before", "after"] if finite else [])


def test_ends_are_told_in_one_order_whoever_came_first() -> None:
    optimizer, ended = SAM([weight()]), []
    for order in (AVERAGED, ZEROS, SLOWED, COUNTED, HELD):
        given = optimizer.base_optimizer if order in (AVERAGED, HELD) else optimizer
        Steps("EMA", order, after=lambda level, order=order: ended.append(order)).attach(given)
    optimizer.step()
    assert ended == [SLOWED, HELD, ZEROS, COUNTED, AVERAGED]


def test_closures_see_the_weights_before_the_step() -> None:
    """The optimizer's own way: LBFGS asks its closure several times in one step."""
    parameter = weight()
    optimizer = torch.optim.LBFGS([parameter], lr=0.1, max_iter=3)
    told, _ = told_of(optimizer)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (parameter**2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert [what for what, _ in told] == ["before", "after"]


class Watched:
    """A wrapper that is no optimizer and calls no hooks."""

    def __init__(self, *inside: Optimizer) -> None:
        self.inside = list(inside)

    def step(self) -> None:
        for one in self.inside:
            one.step()


def test_each_optimizer_inside_such_a_wrapper_is_told_of() -> None:
    one, two = SGD([weight()]), SGD([weight()])
    watched = Watched(one, two)
    told, _ = told_of(watched)
    watched.step()
    assert told == [("before", one), ("before", two), ("after", one), ("after", two)]


@pytest.mark.parametrize("made", [lambda o: copy.deepcopy(o), lambda o: pickle.loads(pickle.dumps(o))])
def test_a_copy_of_such_a_wrapper_steps_on_its_own_and_tells_nobody(made: Any) -> None:
    parameter = weight()
    watched = Watched(SGD([parameter], lr=0.5))
    told, _ = told_of(watched)
    copied = made(watched)
    (other,) = copied.inside[0].param_groups[0]["params"]
    other.grad = torch.ones(2)
    copied.step()
    assert (parameter.tolist(), other.tolist(), told) == ([1.0, 1.0], [0.5, 0.5], [])
    copied_told, _ = told_of(copied)
    copied.step()
    assert (len(copied_told), told) == (2, [])


def test_a_schedule_made_while_its_step_is_told_of_outlives_that() -> None:
    inner = SGD([weight()], lr=0.5)
    slow = Slow(inner)
    told, steps = told_of(slow)
    torch.optim.lr_scheduler.StepLR(slow, 1)
    for _ in range(3):
        slow.step()
        assert len(told) == 2
        steps.detach()
        slow.step()
        assert len(told) == 2
        told.clear()
        steps.attach(slow)
    depth, function = 0, slow.step
    while (function := getattr(function, "__wrapped__", None)) is not None:
        depth += 1
    assert depth <= 3, "not one more each time"


def test_attributes_in_common_with_what_is_inside_tell_once() -> None:
    class Shares(SGD):
        def __init__(self, optimizer: Optimizer) -> None:
            self.__dict__ = dict(vars(optimizer))
            self.inside = optimizer

        def step(self, closure: Any = None) -> Any:
            return self.inside.step(closure)

    for before in (False, True):
        inner = SGD([weight()], lr=0.5)
        if before:
            told, steps = told_of(inner)
        shares = Shares(inner)
        if not before:
            told, steps = told_of(shares)
        shares.step()
        assert [what for what, _ in told] == ["before", "after"]
        steps.detach()
        shares.step()
        assert len(told) == 2


def test_a_step_that_raised_keeps_nothing_of_an_optimizer_that_is_dropped() -> None:
    parameter = weight()
    optimizer = SGD([parameter])
    told_of(optimizer)
    with pytest.raises(MemoryError):
        optimizer.step(fails_for_lack_of_memory)
    gone = weakref.ref(parameter)
    del parameter, optimizer
    gc.collect()
    assert gone() is None


def fails_for_lack_of_memory() -> float:
    raise MemoryError


def test_what_takes_no_attributes_is_refused() -> None:
    class Slots:
        __slots__ = ("optimizer",)

        def __init__(self, optimizer: Optimizer) -> None:
            self.optimizer = optimizer

        def step(self) -> None:
            self.optimizer.step()

    inner = SGD([weight()])
    with pytest.raises(ValueError, match=r"got Slots with __slots__: hand over what is inside \(SGD\)"):
        told_of([SGD([weight()]), Slots(inner)])
    told_of(inner)
