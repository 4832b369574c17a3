"""The optimizer's own memory: clearing what it keeps about some filters, or all of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Adagrad

from filtersmith.filters import FilterLayer, locate
from filtersmith.optim.wrappers import innermost, innermost_of


@torch.no_grad()
def clear_filters(optimizer: Any, layer: FilterLayer, filters: Tensor) -> int:
    """Zero what the optimizer keeps for the given filters of a layer's weight, and nothing else.

    Every state tensor shaped like the weight counts (momentum, first and second moments). Step counters and
    other shapes are shared by all filters and stay.

    Args:
        filters: int64 indices, shape ``(u,)``.

    Returns:
        The number of state tensors that were touched.
    """
    touched = 0
    for value in states_like(optimizer, layer.weight):
        view, index = locate(layer, filters.to(value.device), tensor=value)
        view[index] = 0
        touched += 1
    return touched


@torch.no_grad()
def clear_rows(optimizer: Any, parameter: Tensor, rows: Tensor) -> int:
    """Zero the given rows of every state tensor shaped like ``parameter`` (a bias, a batch norm's weight)."""
    states = states_like(optimizer, parameter)
    for value in states:
        value[rows.to(value.device)] = 0
    return len(states)


@torch.no_grad()
def clear_elements(optimizer: Any, parameter: Tensor, mask: Tensor) -> int:
    """Zero the masked entries of every state tensor shaped like ``parameter``.

    Args:
        mask: bool, of the parameter's shape.
    """
    states = states_like(optimizer, parameter)
    for value in states:
        value.masked_fill_(mask.to(value.device), 0)
    return len(states)


def reset(optimizer: Any) -> None:
    """Forget everything: the state is what it was when the optimizer was made. Learning rates stay."""
    optimizer = innermost(optimizer)
    optimizer.state.clear()
    if isinstance(optimizer, Adagrad):  # the one optimizer of torch that makes its state in the constructor
        groups, start = [dict(g) for g in optimizer.param_groups], optimizer.defaults["initial_accumulator_value"]
        optimizer.state.update(Adagrad(groups, initial_accumulator_value=start).state)


def states_like(optimizer: Any, parameter: Tensor) -> list[Tensor]:
    """What one optimizer or several keep of each single value of a parameter: momentum, first and second moments."""
    kept = (value for inner in innermost_of(optimizer) for value in inner.state.get(parameter, {}).values())
    return [v for v in kept if isinstance(v, Tensor) and v.shape == parameter.shape and v.ndim > 0]
