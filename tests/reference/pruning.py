"""Pruning by hand: sorted Python lists, single entries set to 0, and a training loop with nothing hidden in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from reference.dsd import write
from torch import Tensor, nn
from torch.optim import Optimizer


def first(sizes: Sequence[float], share: float) -> list[int]:
    """Positions of the smallest, at most all but one; of equal ones the first."""
    ranked = sorted(range(len(sizes)), key=lambda place: (sizes[place], place))
    return sorted(ranked[: min(round(share * len(sizes)), len(sizes) - 1)])


def smallest_filters(module: Any, share: float) -> list[int]:
    """Of one layer, by the sum of the absolute values of all that a filter consists of."""
    weight = module.weight.detach().abs().tolist()
    if isinstance(module, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        inputs, per_group = len(weight) // module.groups, len(weight[0])
        filters = [
            [weight[group * inputs + i][column] for i in range(inputs)]
            for group in range(module.groups)
            for column in range(per_group)
        ]
    else:
        filters = weight
    return first([_sum(one) for one in filters], share)


def _sum(values: Any) -> float:
    return sum(_sum(value) for value in values) if isinstance(values, list) else float(values)


def smallest_weights(weights: Sequence[Tensor], share: float) -> list[list[int]]:
    """For each tensor, positions in ``weight.flatten()`` of the smallest of all."""
    places = [(n, place) for n, weight in enumerate(weights) for place in range(weight.numel())]
    values = [value for weight in weights for value in weight.detach().flatten().abs().tolist()]
    chosen = [places[one] for one in first(values, share)]
    return [[place for of, place in chosen if of == n] for n in range(len(weights))]


def train_weights(
    model: nn.Module,
    optimizer: Optimizer,
    scheduler: Any,
    backward: Callable[[int], None],
    layers: list[str],
    *,
    after: int,
    share: float,
    epochs: int,
    steps: int,
) -> None:
    """``backward(n)`` makes the gradients of step n."""
    positions: list[list[int]] = [[] for _ in layers]
    weights = [model.get_parameter(f"{name}.weight") for name in layers]

    def apply() -> None:
        for weight, mine in zip(weights, positions, strict=True):
            write(weight, mine)
            for value in optimizer.state[weight].values() if weight in optimizer.state else ():
                if isinstance(value, Tensor) and value.shape == weight.shape:
                    write(value, mine)

    for epoch in range(epochs):
        for step in range(steps):
            backward(epoch * steps + step)
            optimizer.step()
            apply()
        scheduler.step()
        if epoch + 1 == after:
            positions = smallest_weights(weights, share)
            apply()


def entries(mask: Tensor) -> list[int]:
    return mask.flatten().nonzero().flatten().tolist()


def count(parameters: Sequence[Tensor]) -> int:
    """How many entries are not exactly 0."""
    return sum(int(torch.count_nonzero(parameter)) for parameter in parameters)
