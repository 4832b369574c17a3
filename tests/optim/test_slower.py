"""Steps with a fraction of the learning rate."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from reference.nets import Decaying
from torch.optim import SGD, Adam

from filtersmith.optim.slower import SlowedSteps


def weights(number: int = 1) -> list[torch.nn.Parameter]:
    made = [torch.nn.Parameter(torch.ones(2)) for _ in range(number)]
    for weight in made:
        weight.grad = torch.ones(2)
    return made


@pytest.mark.parametrize("rate", [0.4, torch.tensor(0.4)], ids=["number", "tensor"])
def test_a_step_is_slower_and_the_rate_is_the_very_same_afterwards(rate: Any) -> None:
    (weight,) = weights()
    optimizer = SGD([weight], lr=rate)
    on = [True]
    slowed = SlowedSteps("DSD", optimizer, 0.5, lambda: on[0])
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.full((2,), 0.8))
    assert optimizer.param_groups[0]["lr"] is rate or optimizer.param_groups[0]["lr"] == 0.4
    on[0] = False
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.full((2,), 0.4))
    on[0] = True
    slowed.detach()
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.zeros(2))


def test_several_optimizers_and_a_step_inside_a_step() -> None:
    one, two = weights(2)
    optimizers = [SGD([one], lr=0.4), Decaying([two], lr=0.4)]
    SlowedSteps("DSD", optimizers, 0.5, lambda: True)
    for optimizer in optimizers:
        optimizer.step()
    torch.testing.assert_close(one.detach(), torch.full((2,), 0.8))
    torch.testing.assert_close(two.detach(), torch.full((2,), 0.72), msg="once, not once more for the inner step")
    assert [optimizer.param_groups[0]["lr"] for optimizer in optimizers] == [0.4, 0.4]


def test_a_step_that_raised_leaves_no_slower_rate() -> None:
    (weight,) = weights()
    optimizer = Adam([weight], lr=0.4)
    slowed = SlowedSteps("DSD", optimizer, 0.5, lambda: True)

    def fails() -> float:
        raise RuntimeError("no loss")

    with pytest.raises(RuntimeError):
        optimizer.step(fails)
    optimizer.step()
    assert optimizer.param_groups[0]["lr"] == 0.4
    with pytest.raises(RuntimeError):
        optimizer.step(fails)
    slowed.detach()
    assert optimizer.param_groups[0]["lr"] == 0.4


@pytest.mark.parametrize("rate", [0.4, torch.tensor(0.4)], ids=["number", "tensor"])
def test_what_is_saved_in_a_step_or_after_one_that_raised_has_the_rate_of_the_schedule(rate: Any) -> None:
    (weight,) = weights()
    optimizer = SGD([weight], lr=rate)
    slowed = SlowedSteps("DSD", optimizer, 0.5, lambda: True)
    saved = []

    def saves(fail: bool) -> float:
        saved.append(optimizer.state_dict())
        if fail:
            raise KeyboardInterrupt
        return 0.0

    optimizer.step(lambda: saves(fail=False))
    torch.testing.assert_close(weight.detach(), torch.full((2,), 0.8), msg="this step is slower all the same")
    with pytest.raises(KeyboardInterrupt):
        optimizer.step(lambda: saves(fail=True))
    saved.append(optimizer.state_dict())
    assert [float(state["param_groups"][0]["lr"]) for state in saved] == pytest.approx([0.4] * 3)
    slowed.detach()
    assert optimizer.state_dict()["param_groups"][0]["lr"] == pytest.approx(0.4)
