"""Phases of training by hand: a new optimizer, a new schedule, and on with the same weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn
from torch.optim import Optimizer


def restarts(
    model: nn.Module,
    make_optimizer: Callable[[Any], Optimizer],
    make_scheduler: Callable[[Optimizer], Any] | None,
    train_epoch: Callable[[nn.Module, Optimizer, int], None],
    epochs: Iterable[int],
) -> list[float]:
    """Train ``epochs`` epochs a phase. Returns the learning rate of the first group in every epoch."""
    rates = []
    epoch = 0
    for length in epochs:
        optimizer = make_optimizer(model.parameters())
        scheduler = make_scheduler(optimizer) if make_scheduler is not None else None
        for within in range(length):
            rates.append(float(optimizer.param_groups[0]["lr"]))
            train_epoch(model, optimizer, epoch)
            epoch += 1
            if scheduler is not None and within + 1 < length:
                scheduler.step()
    return rates
