"""Trying copies of modules whose class is the user's own, on noise: what a class does is not said by its name."""

from __future__ import annotations

import copy
import random
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from filtersmith.common.modules import deep_copy
from filtersmith.graph.probe import unseen
from filtersmith.reparam.branches import plain_class

_PLAIN = (int, float, str, tuple, type(None))
_EVERY = frozenset(vars(nn.Module()))


class Registers(Protocol):
    """What computes the weight of a layer from other parameters."""

    def register(self, layer: Any) -> None: ...


def is_batch_norm_and_children(bn: Any) -> bool:
    """Whether a subclass of torch's batch norms normalises as these do and then calls its children, one by one."""
    if "forward" in vars(bn):
        return False
    several = sum(type(child) is not nn.Identity for child in bn.children()) > 1
    try:
        with unseen(), torch.device("cpu"):
            # What synchronises takes no images on the CPU while it trains; order shows there (dropout).
            if (synchronises := plain_class(bn) is nn.SyncBatchNorm) and several:
                return False
            modes = (False,) if synchronises else (False, True)
            return all(_as_children_do(bn, mode) for mode in modes)
    except Exception:  # it takes something else, or more
        return False


def _as_children_do(bn: Any, mode: bool) -> bool:
    whole = _copy(bn, mode)
    norm = copy.deepcopy(whole)
    norm.__class__ = plain_class(bn)
    children = list(norm.children())
    norm._modules = {}
    for seed in range(2):
        images = _noise((4, bn.num_features, *(5,) * _spatial(bn)), seed) * 3
        outputs = []
        for each in ([whole], [norm, *children]):
            torch.default_generator.manual_seed(seed)
            random.seed(seed)
            output = images.clone()
            for module in each:
                output = module(output)
            outputs.append(output)
        if not _same(*outputs) or not all(map(_same, whole._buffers.values(), norm._buffers.values())):
            return False
    return True


def _spatial(bn: nn.Module) -> int:
    return {nn.BatchNorm1d: 1, nn.BatchNorm3d: 3}.get(plain_class(bn), 2)


def trains_computed(layer: Any, method: Registers) -> bool:
    """Whether a layer of a class of its own does with a computed weight what it does with its own, and no more.

    It may write into its weight, for instance to bound its norm: into a computed one that has no effect.
    """
    try:
        with unseen(), torch.device("cpu"):
            return all(_does_the_same(layer, method, mode) for mode in (False, True))
    except Exception:  # it takes something else, or more
        return False


def _does_the_same(layer: Any, method: Registers, mode: bool) -> bool:
    plain = _copy(layer, mode)
    expanded = copy.deepcopy(plain)
    method.register(expanded)
    expanded.parametrizations.train(mode)
    weight = plain.weight.clone()
    sides: tuple[int, ...] = ()
    if isinstance(layer, _ConvNd):
        sides = tuple(step * (side - 1) + 3 for step, side in zip(layer.dilation, layer.kernel_size, strict=True))
    images = _noise((2, layer.in_channels if sides else layer.in_features, *sides), 0)
    for _ in range(2):
        outputs = []
        for each in (plain, expanded):
            torch.default_generator.manual_seed(0)
            random.seed(0)
            outputs.append(each(images.clone()))
        if not _same(*outputs):
            return False
    return torch.equal(plain.weight, weight)


def alike(module: nn.Module) -> Any:
    """What modules that do the same have in common: class, sizes, and whatever else is no tensor."""
    plain = {k: repr(v) if isinstance(v, _PLAIN) else id(v) for k, v in vars(module).items() if k not in _EVERY}
    shapes = [(k, tuple(p.shape)) for k, p in module._parameters.items() if p is not None]
    return type(module), str(plain), str(shapes), tuple(map(alike, module.children()))


def _copy(module: nn.Module, mode: bool) -> Any:
    """A copy on the CPU with noise for its own parameters and statistics."""
    made = deep_copy(module)
    on_meta = any(tensor.is_meta for tensor in (*made.parameters(), *made.buffers()))
    made = (made.to_empty(device="cpu") if on_meta else made.to("cpu")).double().train(mode)
    for seed, (name, tensor) in enumerate([*made._parameters.items(), *made._buffers.items()]):
        if tensor is not None and tensor.is_floating_point():
            values = _noise(tuple(tensor.shape), seed) * 3
            tensor.copy_(values.abs() + 0.5 if name == "running_var" else values)
    return made


def _noise(shape: tuple[int, ...], seed: int) -> Tensor:
    generator = torch.Generator(device="cpu").manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.shape == other.shape and torch.allclose(one.double(), other.double(), rtol=1e-9, atol=1e-9)
