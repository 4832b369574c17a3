"""DSD by hand: sorted Python lists, single weights set to 0, learning rates written into the groups."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def smallest(weight: Tensor, share: float) -> list[int]:
    """Positions in ``weight.flatten()`` of the smallest weights; of equal ones the first."""
    values = [abs(w) for w in weight.detach().flatten().tolist()]
    ranked = sorted(range(len(values)), key=lambda i: (values[i], i))
    return sorted(ranked[: round(share * len(values))])


@torch.no_grad()
def write(tensor: Tensor, positions: list[int], value: float = 0.0) -> None:
    for position in positions:
        tensor[tuple(int(i) for i in numpy.unravel_index(position, tensor.shape))] = value


def phases(s1: int, s2: int, cycles: int, epochs: int) -> list[str]:
    """``dense`` (before any mask), ``sparse`` or ``redense`` for each epoch."""
    plan = ["dense"] * s1
    for _ in range(cycles):
        plan += ["sparse"] * s2 + ["redense"] * s1
    return ((plan if cycles else []) + ["redense" if cycles else "dense"] * epochs)[:epochs]


def train(
    model: nn.Module,
    optimizer: Optimizer,
    scheduler: Any,
    backward: Callable[[int], None],
    layers: list[str],
    *,
    epochs: int,
    steps: int,
    s1: int,
    s2: int,
    cycles: int,
    prune: float,
    lr_factor: float,
) -> None:
    """``backward(n)`` makes the gradients of step n."""
    masks: dict[str, list[int]] = {}

    def apply() -> None:
        for name, positions in masks.items():
            weight = model.get_submodule(name).weight
            write(weight, positions)
            for value in optimizer.state[weight].values() if weight in optimizer.state else ():
                if isinstance(value, Tensor) and value.shape == weight.shape:
                    write(value, positions, optimizer.defaults.get("initial_accumulator_value", 0.0))

    before = "dense"
    for epoch, phase in enumerate(phases(s1, s2, cycles, epochs)):
        if phase == "sparse" != before:
            masks = {name: smallest(model.get_submodule(name).weight, prune) for name in layers}
            apply()
        elif phase != "sparse":
            masks = {}
        before = phase
        for step in range(steps):
            backward(epoch * steps + step)
            scheduled = [group["lr"] for group in optimizer.param_groups]
            if phase == "redense":
                for group in optimizer.param_groups:
                    group["lr"] = group["lr"] * lr_factor
            optimizer.step()
            for group, rate in zip(optimizer.param_groups, scheduled, strict=True):
                group["lr"] = rate
            apply()
        scheduler.step()
