"""Being told of each step that is one, once, in the right order, through whatever it is called by."""

from __future__ import annotations

import gc
import warnings
import weakref
from typing import Any

import pytest
import torch
from reference.nets import Decaying, hooks_of
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from filtersmith.optim.steps import AVERAGED, COUNTED, HELD, SLOWED, ZEROS, Rounds, Steps


def weight() -> nn.Parameter:
    made = nn.Parameter(torch.ones(2))
    made.grad = torch.ones(2)
    return made


def told_of(optimizer: Any, order: int = HELD) -> tuple[list[tuple[str, Any]], Steps]:
    """What is told of an optimizer's steps, in a list that grows."""
    told: list[tuple[str, Any]] = []
    steps = Steps(
        "WAU",
        order,
        before=lambda level: told.append(("before", level)),
        after=lambda level: told.append(("after", level)),
        none=lambda level: told.append(("none", level)),
    )
    steps.attach(optimizer)
    return told, steps


class SAM(Optimizer):
    """Takes two steps in one: moves against itself, asks for gradients there, moves back and steps."""

    def __init__(self, parameters: Any, skip: bool = False) -> None:
        super().__init__(parameters, {"rho": 0.05})
        self.base_optimizer = SGD(self.param_groups, lr=0.1)
        self.skip = skip

    def step(self, closure: Any = None) -> Any:
        loss = None if closure is None else closure()
        if not self.skip:
            self.second_step()
        return loss

    def second_step(self) -> None:
        self.base_optimizer.step()


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


def test_nothing_stays_on_a_detached_optimizer_and_none_is_kept_alive() -> None:
    sam = SAM([weight()])
    _, steps = told_of(sam)
    steps.detach()
    steps.detach()
    module = nn.Linear(1, 1)
    assert hooks_of(module, sam) == hooks_of(module, sam.base_optimizer) == 0
    told_of(sam)
    gone = weakref.ref(sam)
    del sam, steps
    gc.collect()
    assert gone() is None, "also one that is attached to"


def test_attaching_is_all_or_nothing() -> None:
    first, second = SGD([weight()]), SGD([weight()])
    second.train = second.eval = lambda: None  # type: ignore[attr-defined]
    steps = Steps("WAU", HELD)
    with pytest.raises(ValueError, match="got SGD: its eval"):
        steps.attach([first, second])
    assert not steps.optimizers
    assert hooks_of(nn.Linear(1, 1), first) == 0


# --- rounds of several ---------------------------------------------------------------------------------------


def test_a_round_ends_when_all_have_stepped_in_whatever_order() -> None:
    first, second = SGD([weight()]), SGD([weight()])
    over: list[int] = []
    Rounds("EMA", AVERAGED, [first, second], lambda: over.append(1))
    for n in range(1, 4):
        second.step()
        assert len(over) == n - 1
        first.step()
        assert len(over) == n


def test_a_round_without_all_ends_when_one_steps_again_or_is_asked_to() -> None:
    first, second = SGD([weight()]), SGD([weight()])
    over: list[int] = []
    rounds = Rounds("EMA", AVERAGED, [first, second], lambda: over.append(1))
    first.step()
    first.step()
    assert len(over) == 1
    second.step()
    assert len(over) == 2
    first.step()
    rounds.close()
    rounds.close()
    assert len(over) == 3


# --- what is said --------------------------------------------------------------------------------------------


def test_an_optimizers_state_without_that_of_the_method_is_warned_of_once() -> None:
    module = nn.Linear(2, 2)
    optimizer = Adam(module.parameters())
    module(torch.ones(1, 2)).sum().backward()
    fresh = optimizer.state_dict()
    optimizer.step()
    saved = optimizer.state_dict()
    steps = Steps("WAU", HELD, has_state=True)
    steps.attach(optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.load_state_dict(fresh)  # as accelerate does when it prepares one
        optimizer.step()
        optimizer.load_state_dict(saved)
        steps.own_state_was_loaded()
        optimizer.step()
    optimizer.load_state_dict(saved)
    with pytest.warns(UserWarning, match=r"^WAU: the optimizer's state was loaded, that of WAU was not") as said:
        optimizer.step()
    assert said[0].filename == __file__, "the user's line"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step()


def test_weights_that_move_without_a_step_are_warned_of() -> None:
    module, twin = nn.Linear(2, 2), nn.Linear(2, 2)
    mine, other = SGD(module.parameters(), lr=0.1), SGD(module.parameters(), lr=0.1)
    _, steps = told_of(mine)
    module(torch.ones(1, 2)).sum().backward()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        steps.warn_if_unseen()  # nothing has moved yet
    other.step()
    with pytest.warns(UserWarning, match="^WAU: the weights have moved, but no step of this SGD was seen"):
        steps.warn_if_unseen()
    seen, steps = told_of(twin_optimizer := SGD(twin.parameters(), lr=0.1))
    twin(torch.ones(1, 2)).sum().backward()
    twin_optimizer.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        steps.warn_if_unseen()
    assert seen


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
