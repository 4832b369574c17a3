"""Ranking criteria the slow way: hooks on named modules, full forward passes, one filter after the other."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, relu

Data = Sequence[tuple[Tensor, Tensor]]
Behind = Mapping[str, tuple[str, bool]]
"""Layer -> the module that gives its activation, and whether a ReLU comes after that."""
Places = Mapping[str, Sequence[tuple[str, str, int]]]
"""Layer -> where its channels are taken away: ``(module, "input" or "output", channel of filter 0)``."""


def _copy(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).eval()


def _filters(model: nn.Module, name: str) -> int:
    return int(model.get_submodule(name).out_channels)


def _maps(model: nn.Module, images: Tensor, layer: tuple[str, bool]) -> Tensor:
    seen: list[Tensor] = []
    handle = model.get_submodule(layer[0]).register_forward_hook(lambda m, a, out: seen.append(out.detach().clone()))
    model(images)
    handle.remove()
    return relu(seen[0]) if layer[1] else seen[0]


def activation(model: nn.Module, behind: Behind, data: Data) -> dict[str, Tensor]:
    model, scores = _copy(model), {}
    for name, layer in behind.items():
        maps = torch.cat([_maps(model, images, layer) for images, _ in data]).double()
        scores[name] = torch.stack([maps[:, f].abs().mean() for f in range(maps.shape[1])])
    return scores


def apoz(model: nn.Module, behind: Behind, data: Data) -> dict[str, Tensor]:
    model, scores = _copy(model), {}
    for name, layer in behind.items():
        maps = torch.cat([_maps(model, images, layer) for images, _ in data])
        scores[name] = torch.stack([-(maps[:, f] == 0).double().mean() for f in range(maps.shape[1])])
    return scores


def taylor(model: nn.Module, behind: Behind, data: Data) -> dict[str, Tensor]:
    model, scores = _copy(model), {}
    for name, (module, then_relu) in behind.items():
        each = []
        for images, labels in data:
            seen: list[Tensor] = []

            def hook(m: nn.Module, args: Any, out: Tensor, seen: list[Tensor] = seen) -> Tensor:
                out.retain_grad()
                seen.append(out)
                return out.clone()

            handle = model.get_submodule(module).register_forward_hook(hook)
            cross_entropy(model(images), labels).backward()
            handle.remove()
            z = relu(seen[0]) if then_relu else seen[0]  # where the ReLU is 0, so is the product
            for example in range(len(images)):
                maps = (z[example] * seen[0].grad[example]).detach().double()
                each.append(torch.stack([maps[f].mean().abs() for f in range(len(maps))]))
        scores[name] = torch.stack(each).mean(0)
    return scores


def gradient(model: nn.Module, groups_of: Mapping[str, int | None], data: Data) -> dict[str, Tensor]:
    """``groups_of``: layer -> groups of a transposed convolution, ``None`` for others."""
    model, scores = _copy(model), {name: [] for name in groups_of}
    for images, labels in data:
        model.zero_grad()
        cross_entropy(model(images), labels).backward()
        for name, groups in groups_of.items():
            grad = model.get_submodule(name).weight.grad
            per = []
            for f in range(_filters(model, name)):
                if groups is None:
                    own = grad[f]
                else:
                    i, j = divmod(f, grad.shape[1])
                    rows = len(grad) // groups
                    own = grad[rows * i : rows * (i + 1), j]
                per.append(own.double().abs().sum())
            scores[name].append(torch.stack(per))
    return {name: torch.stack(per).mean(0) for name, per in scores.items()}


def accuracy(model: nn.Module, data: Data) -> float:
    hits = [model(images).argmax(1) == labels for images, labels in data]
    return float(torch.cat(hits).double().mean())


@torch.no_grad()
def oracle(
    model: nn.Module, places: Places, data: Data, strides: Mapping[str, int] | None = None
) -> dict[str, Tensor]:
    """``strides``: layer -> how many channels each of its filters makes there, if more than one."""
    model = _copy(model)
    full, scores = accuracy(model, data), {}
    for name, where in places.items():
        drops = []
        for f in range(_filters(model, name)):
            handles = []
            for module, side, offset in where:
                first = offset + f * (strides or {}).get(name, 1)

                def after(m: nn.Module, args: Any, out: Tensor, channel: int = first) -> Tensor:
                    out = out.clone()
                    out[:, channel] = 0
                    return out

                def before(m: nn.Module, args: Any, channel: int = first) -> tuple[Tensor]:
                    value = args[0].clone()
                    value[:, channel] = 0
                    return (value,)

                one = model.get_submodule(module)
                handles.append(
                    one.register_forward_hook(after) if side == "output" else one.register_forward_pre_hook(before)
                )
            drops.append(full - accuracy(model, data))
            for handle in handles:
                handle.remove()
        scores[name] = torch.tensor(drops, dtype=torch.float64)
    return scores
