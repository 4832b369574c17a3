"""Networks whose kernels are shared, the slow and obvious way: copies, and gradients that are added up by hand."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn


def groups_of_equal_shape(model: nn.Module) -> list[list[str]]:
    """Convolutions of equal shape, by going through all pairs."""
    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, (nn.Conv1d, nn.Conv2d, nn.Conv3d))]
    groups: list[list[str]] = []
    for name, module in layers:
        for group in groups:
            first = model.get_submodule(group[0])
            if first.weight.shape == module.weight.shape and first.groups == module.groups:
                group.append(name)
                break
        else:
            groups.append([name])
    return [group for group in groups if len(group) > 1]


def untied(model: nn.Module, groups: Sequence[Sequence[str]]) -> nn.Module:
    """A copy in which every layer has a kernel of its own, all with the same values."""
    twin = copy.deepcopy(model)
    for hooks in (twin._forward_pre_hooks, twin._load_state_dict_pre_hooks):
        hooks.clear()
    for group in groups:
        for name in group:
            layer = twin.get_submodule(name)
            layer.weight = nn.Parameter(layer.weight.detach().clone())
    return twin


def sgd_step(twin: nn.Module, groups: Sequence[Sequence[str]], lr: float) -> None:
    """A step of plain gradient descent in which the copies of a kernel move by the sum of their gradients."""
    with torch.no_grad():
        for group in groups:
            layers = [twin.get_submodule(name) for name in group]
            total = sum(layer.weight.grad for layer in layers)
            for layer in layers:
                layer.weight.grad = total.clone()
        for parameter in twin.parameters():
            parameter -= lr * parameter.grad
