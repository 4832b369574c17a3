"""The learning-rate schedules as one pure function of the step; torch's LambdaLR does the rest."""

from __future__ import annotations

import math
from bisect import bisect_right

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from filtersmith.common.options import bad_option
from filtersmith.common.words import plural
from filtersmith.lab.recipe.config import TrainOptions


def lr_factor(step: int, options: TrainOptions, epochs: int, steps_per_epoch: int) -> float:
    """What the initial learning rate is multiplied by in a step.

    Args:
        step: from 0, within the phase.
        options: the schedule and its options.
        epochs: length of the phase; milestones below 1, and cosine, are relative to it.
        steps_per_epoch: to count epochs in steps.
    """
    warmup = min(options.warmup_epochs, epochs) * steps_per_epoch
    if step < warmup:
        return (step + 1) / (warmup + 1)
    epoch = step // steps_per_epoch
    floor = options.lr_min / options.lr
    if options.schedule == "cosine":
        progress = min(1.0, (step - warmup) / max(1.0, epochs * steps_per_epoch - warmup))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))
    if options.schedule == "step":
        return options.gamma ** (epoch // options.step_epochs)
    if options.schedule == "multistep":
        milestones = sorted(m * epochs if m < 1 else m for m in options.milestones)
        return options.gamma ** bisect_right(milestones, epoch)
    if options.schedule == "cyclic":  # a triangle: lowest rate, up to lr in half a cycle, and down again
        cycle = options.step_epochs * steps_per_epoch
        return floor + (1 - floor) * (1 - abs(2 * (step % cycle) / cycle - 1))
    return 1.0


def make_scheduler(optimizer: Optimizer, options: TrainOptions, epochs: int, steps_per_epoch: int) -> LambdaLR:
    """The schedule of one phase, to be stepped after every batch.

    ``ValueError`` where a phase is too short for it: a drop that never comes would be another recipe.
    """
    phase = f"the {plural(epochs, 'epoch')} of a phase"
    if options.warmup_epochs and options.warmup_epochs >= epochs:
        raise bad_option("train.warmup_epochs", options.warmup_epochs, f"below {phase}")
    late = [m for m in options.milestones if m >= 1 and m >= epochs] if options.schedule == "multistep" else []
    if late:
        raise bad_option("train.milestones", late, f"below {phase}, or a fraction below 1")
    if options.schedule == "step" and options.step_epochs >= epochs:
        raise bad_option("train.step_epochs", options.step_epochs, f"below {phase}, or the rate never drops")
    if options.schedule == "cyclic" and options.step_epochs > 2 * epochs:
        raise bad_option(
            "train.step_epochs", options.step_epochs, f"at most twice {phase}, or the rate never gets to lr"
        )
    scheduler = LambdaLR(optimizer, lambda step: lr_factor(step, options, epochs, steps_per_epoch))
    scheduler.steps_per_epoch = steps_per_epoch  # type: ignore[attr-defined]  # so that its length is known
    return scheduler


def describe(options: TrainOptions) -> str:
    """The schedule in a few words, for titles: ``cosine`` or ``x0.1 at 81, 122``."""
    if options.schedule == "multistep":
        at = ", ".join(f"{m:.0%}" if m < 1 else f"{m:g}" for m in options.milestones)
        return f"×{options.gamma:g} at {at}"
    if options.schedule == "step":
        return f"×{options.gamma:g} every {options.step_epochs}"
    if options.schedule == "cyclic":
        return f"cyclic, period {options.step_epochs}"
    return "constant rate" if options.schedule == "constant" else options.schedule
