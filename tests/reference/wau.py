"""WAU the slow and obviously right way: step a copy, then carry the chosen units over, one by one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import torch
from reference.filters import members
from torch import Tensor, nn
from torch.optim import Optimizer

Closure = Callable[[], Tensor]


def bare_copy(model: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
    """Both as they are now, gradients included; the copy of the optimizer has no hooks."""
    model_copy, optimizer_copy = copy.deepcopy((model, optimizer))
    for ours, theirs in zip(model.parameters(), model_copy.parameters(), strict=True):
        theirs.grad = None if ours.grad is None else ours.grad.clone()
    return model_copy, optimizer_copy


@torch.no_grad()
def wau_step(
    model: nn.Module,
    bare: nn.Module,
    active: Mapping[str, Tensor],
    unit: str = "filter",
) -> dict[str, Tensor]:
    """The weights after a masked step.

    Args:
        model: before the step.
        bare: a copy of it after the bare optimizer's step.
        active: layer name -> bool, shape ``(units,)``: what the masked step may move.
    """
    after = {name: tensor.clone() for name, tensor in bare.state_dict().items()}
    for name, mask in active.items():
        layer = model.get_submodule(name)
        result = layer.weight.clone()
        for u in range(len(mask)):
            if mask[u]:
                chosen = members(layer, [u], unit)
                result[chosen] = bare.get_submodule(name).weight[chosen]
        after[f"{name}.weight"] = result
    return after
