"""Learning-rate schedules against torch's own."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, CyclicLR, LRScheduler, MultiStepLR, StepLR

from filtersmith.lab.recipe.config import TrainOptions
from filtersmith.lab.training.learning_rate import describe, lr_factor, make_scheduler

EPOCHS, STEPS = 6, 5


def optimizer(lr: float = 0.2) -> SGD:
    return SGD([torch.nn.Parameter(torch.ones(1))], lr=lr)


def rates(scheduler: LRScheduler, every: int = 1) -> list[float]:
    """The learning rate of every step of all epochs; the scheduler is stepped every so many."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the optimizer was never stepped
        for step in range(EPOCHS * STEPS):
            found.append(scheduler.optimizer.param_groups[0]["lr"])
            if (step + 1) % every == 0:
                scheduler.step()
    return found


def ours(**options: Any) -> list[float]:
    return rates(make_scheduler(optimizer(), TrainOptions(lr=0.2, epochs=EPOCHS, **options), EPOCHS, STEPS))


def test_constant() -> None:
    assert ours(schedule="constant") == [0.2] * (EPOCHS * STEPS)


@pytest.mark.parametrize("lowest", [0.0, 0.05])
def test_cosine(lowest: float) -> None:
    theirs = rates(CosineAnnealingLR(optimizer(), EPOCHS * STEPS, eta_min=lowest))
    assert ours(schedule="cosine", lr_min=lowest) == pytest.approx(theirs)


def test_step() -> None:
    theirs = rates(StepLR(optimizer(), 2, gamma=0.3), every=STEPS)
    assert ours(schedule="step", step_epochs=2, gamma=0.3) == pytest.approx(theirs)


@pytest.mark.parametrize("milestones", [(2, 4), (4, 2), (1 / 3, 2 / 3), (1 / 3, 4)])
def test_multistep_in_epochs_or_shares_of_them(milestones: tuple[float, ...]) -> None:
    theirs = rates(MultiStepLR(optimizer(), [2, 4], gamma=0.1), every=STEPS)
    assert ours(schedule="multistep", milestones=milestones) == pytest.approx(theirs)


@pytest.mark.parametrize("cycle", [2, 3, 7])
def test_cyclic(cycle: int) -> None:
    up = cycle * STEPS / 2
    theirs = rates(CyclicLR(optimizer(), 0.01, 0.2, step_size_up=up, cycle_momentum=False))
    assert ours(schedule="cyclic", step_epochs=cycle, lr_min=0.01) == pytest.approx(theirs)


def test_warmup_rises_linearly_and_the_cosine_takes_what_is_left() -> None:
    found = ours(schedule="cosine", warmup_epochs=2)
    assert found[:10] == pytest.approx([0.2 * (step + 1) / 11 for step in range(10)])
    assert found[10] == pytest.approx(0.2)
    theirs = rates(CosineAnnealingLR(optimizer(), 4 * STEPS))
    assert found[10:] == pytest.approx(theirs[:20])


def test_a_phase_shorter_than_the_warmup_only_rises() -> None:
    options = TrainOptions(epochs=9, warmup_epochs=4)
    factors = [lr_factor(step, options, 2, STEPS) for step in range(2 * STEPS)]
    assert factors == sorted(factors)
    assert factors[0] > 0
    assert factors[-1] < 1


def test_words_for_titles() -> None:
    assert describe(TrainOptions()) == "cosine"
    assert describe(TrainOptions(schedule="constant")) == "constant rate"
    assert describe(TrainOptions(schedule="multistep", milestones=(0.5, 82))) == "×0.1 at 50%, 82"
    assert describe(TrainOptions(schedule="step", step_epochs=4)) == "×0.1 every 4"


@pytest.mark.parametrize("options", [{"milestones": (81, 122)}, {"milestones": (0.5,), "warmup_epochs": 3}])
def test_a_phase_too_short_for_its_schedule_is_refused(options: dict[str, object]) -> None:
    train = TrainOptions.model_validate({"schedule": "multistep", "epochs": 164, **options})
    make_scheduler(torch.optim.SGD([torch.zeros(1)], 0.1), train, 164, 10)
    with pytest.raises(ValueError, match=r"train\.(milestones|warmup_epochs) must be below the 3 epochs of a phase"):
        make_scheduler(torch.optim.SGD([torch.zeros(1)], 0.1), train, 3, 10)


@pytest.mark.parametrize(
    ("schedule", "fits", "message"),
    [
        ("step", 2, "train.step_epochs must be below the 3 epochs of a phase, or the rate never drops, got "),
        (
            "cyclic",
            6,
            "train.step_epochs must be at most twice the 3 epochs of a phase, or the rate never gets to lr",
        ),
    ],
)
def test_a_phase_too_short_for_the_first_drop_or_peak_is_refused(schedule: str, fits: int, message: str) -> None:
    for epochs in (fits, fits + 1):
        train = TrainOptions.model_validate({"schedule": schedule, "step_epochs": epochs})
        factors = {lr_factor(step, train, 3, 10) for step in range(30 + (schedule == "cyclic"))}
        assert (max(factors) == 1 and len(factors) > 1) == (epochs == fits)
        if epochs == fits:
            make_scheduler(optimizer(), train, 3, 10)
        else:
            with pytest.raises(ValueError, match=message):
                make_scheduler(optimizer(), train, 3, 10)
