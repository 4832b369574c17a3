"""Steps that are none: left out by a gradient scaler, or taken so that an optimizer makes its state."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from reference.nets import Wrapper
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict
from torch.optim import SGD, Adam

from filtersmith.optim.no_steps import has_stepped, makes_its_state, refuse_two_weights, update_is_skipped


def weight() -> nn.Parameter:
    made = nn.Parameter(torch.ones(2))
    made.grad = torch.ones(2)
    return made


@pytest.mark.parametrize(
    ("found", "skipped"),
    [(None, False), (torch.tensor(0.0), False), (torch.tensor(1.0), True), (torch.tensor([1.0]), True)],
)
def test_a_fused_step_is_skipped_where_its_scaler_found_infinities(found: Tensor | None, skipped: bool) -> None:
    optimizer = SGD([weight()])
    assert not update_is_skipped(optimizer), "not asked by a scaler"
    optimizer.found_inf = found  # type: ignore[attr-defined]
    assert update_is_skipped(optimizer) == skipped


@pytest.mark.parametrize("finite", [True, False])
def test_torchs_scaler_tells_a_fused_optimizer(finite: bool) -> None:
    parameter = weight()
    optimizer = torch.optim.Adam([parameter], lr=0.1, fused=True)
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append(update_is_skipped(optimizer)))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    factor = 1.0 if finite else torch.inf
    optimizer.zero_grad()
    scaler.scale((parameter * factor).sum()).backward()
    before = parameter.detach().clone()
    scaler.step(optimizer)
    assert seen == [not finite]
    assert torch.equal(parameter, before) == (not finite), "torch does what the function says"


@pytest.mark.parametrize("make", [SGD, Adam])
def test_a_step_that_makes_the_state_is_told_from_one_at_rate_0(make: Any) -> None:
    module = nn.Linear(2, 2)
    optimizer = make(module.parameters(), lr=0.1)
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append(makes_its_state(optimizer, [optimizer])))
    get_optimizer_state_dict(module, optimizer)
    assert seen == [True]
    optimizer.state.clear()
    optimizer.param_groups[0]["lr"] = 0.0  # the first step of a warm-up
    module(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    optimizer.param_groups[0]["lr"] = 0.1
    optimizer.state.clear()
    module.zero_grad(set_to_none=False)
    optimizer.step()
    assert seen == [True, False, False]


def test_what_a_constructor_made_is_of_no_step() -> None:
    adagrad = torch.optim.Adagrad([parameter := weight()])
    assert not has_stepped(adagrad.state[parameter])
    adagrad.step()
    assert has_stepped(adagrad.state[parameter])
    assert not has_stepped({})
    assert has_stepped({"momentum_buffer": torch.ones(2)})


class TwoWeights(SGD):
    """As schedule-free optimizers: trains other weights than those to deploy."""

    def train(self) -> None: ...
    def eval(self) -> None: ...


class Switching(Wrapper):
    """A wrapper that does so itself."""

    def __init__(self, optimizer: Any) -> None:
        super().__init__(optimizer)
        self.train_mode = False

    def train(self) -> None: ...
    def eval(self) -> None: ...


class HandsOn(Wrapper):
    """As accelerate's, which only has these calls to hand them on."""

    def train(self) -> None: ...
    def eval(self) -> None: ...


def test_optimizers_with_two_weights_are_refused_in_one_line_and_not_what_hands_the_call_on() -> None:
    refuse_two_weights(HandsOn(SGD([weight()])))
    for optimizer in (TwoWeights([weight()]), HandsOn(TwoWeights([weight()])), Switching(SGD([weight()]))):
        with pytest.raises(
            ValueError, match=r"^optimizer must move the weights that are deployed, got \w+: its eval"
        ):
            refuse_two_weights(optimizer)


def test_a_rate_that_the_optimizer_finds_by_itself() -> None:
    """As transformers' Adafactor with ``lr=None``."""
    optimizer = SGD([weight()], lr=0.0)
    optimizer.param_groups[0]["lr"] = None
    assert not makes_its_state(optimizer, (optimizer,))
