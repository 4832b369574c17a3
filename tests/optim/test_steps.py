"""What is at work in the steps of one optimizer and in the rounds of several, and what is said of them."""

from __future__ import annotations

import gc
import warnings
import weakref

import pytest
import torch
from reference.nets import hooks_of
from reference.stepping import SAM, told_of, weight
from torch import nn
from torch.optim import SGD, Adam

from filtersmith.optim.steps import AVERAGED, HELD, Rounds, Steps


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


def test_weights_that_were_loaded_have_not_moved_unseen() -> None:
    one, loaded = SGD([parameter := weight()], lr=0.5), torch.tensor([3.0, 3.0])
    for first in (True, False):
        _, steps = told_of(one)
        if first:
            steps.own_state_was_loaded()
        parameter.data.copy_(loaded + first)
        if not first:
            steps.own_state_was_loaded()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            steps.warn_if_unseen()
        parameter.data.add_(1)
        with pytest.warns(UserWarning, match="the weights have moved, but no step of this SGD was seen"):
            steps.warn_if_unseen()
        steps.detach()
