"""How much smaller the images become on their way through a network, read off its graph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.pooling import _AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd, _AvgPoolNd, _LPPoolNd, _MaxPoolNd

from filtersmith.graph import Part

FIXED = Fraction(0)
"""Behind an adaptive pooling or a mean over the image: the size does not depend on the image's."""

_POOLS = (
    *(F.max_pool1d, F.max_pool2d, F.max_pool3d, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d),
    *(torch.max_pool1d, torch.max_pool2d, torch.max_pool3d),
)
_ADAPTIVE = (
    *(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d),
    *(F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d),
    *(torch.mean, "mean"),
)


def reductions(part: Part) -> dict[fx.Node, Fraction]:
    """For each value of a network's graph how many times fewer positions it has than the image; `FIXED` if none.

    4 behind a pooling of 2x2. Values that are no images have some number, too.
    """
    found: dict[fx.Node, Fraction] = {}
    for node in part.graph.nodes:
        before = max((found[source] for source in node.all_input_nodes), default=Fraction(1))
        found[node] = before * _step(part, node)
    return found


def _step(part: Part, node: fx.Node) -> Fraction:
    """The factor of one call."""
    if node.op == "call_module":
        return _of_module(part.called(node), _dimensions(part, node))
    if node.op not in ("call_function", "call_method"):
        return Fraction(1)
    target: Any = node.target
    if target in _ADAPTIVE:
        return FIXED
    if target in _POOLS:
        dims = int(target.__name__[-2])
        kernel = node.args[1] if len(node.args) > 1 else node.kwargs.get("kernel_size")
        stride = node.args[2] if len(node.args) > 2 else node.kwargs.get("stride")
        return _product(stride if stride not in (None, ()) else kernel, dims)
    if target is F.interpolate:
        factor = node.args[2] if len(node.args) > 2 else node.kwargs.get("scale_factor")
        return 1 / _product(factor, 2) if factor is not None else Fraction(1)
    if getattr(target, "__name__", "") == "getitem" and isinstance(node.args[1], tuple):
        steps = [place.step for place in node.args[1][2:] if isinstance(place, slice)]
        return Fraction(math.prod(step for step in steps if isinstance(step, int)))
    return Fraction(1)


def _of_module(module: nn.Module, dims: int) -> Fraction:
    if isinstance(module, _ConvTransposeNd):
        return 1 / _product(module.stride, len(module.kernel_size))
    if isinstance(module, _ConvNd):
        return _product(module.stride, len(module.kernel_size))
    if isinstance(module, (_MaxPoolNd, _AvgPoolNd, _LPPoolNd)):
        return _product(module.stride if module.stride is not None else module.kernel_size, dims)
    if isinstance(module, (_AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd)):
        return FIXED
    if isinstance(module, nn.Upsample) and module.scale_factor is not None:
        return 1 / _product(module.scale_factor, 2)
    if isinstance(module, nn.PixelShuffle):
        return 1 / _product(module.upscale_factor, 2)
    return _product(module.downscale_factor, 2) if isinstance(module, nn.PixelUnshuffle) else Fraction(1)


def _dimensions(part: Part, node: fx.Node) -> int:
    """Of the space that a pooling works in: the digit in the name of its class."""
    digits = [letter for letter in type(part.called(node)).__name__ if letter.isdigit()]
    return int(digits[-1]) if digits else 2


def _product(factor: Any, dims: int) -> Fraction:
    """The factor of all dimensions together; one number stands for each of them."""
    if isinstance(factor, (int, float)):
        return Fraction(factor).limit_denominator(64) ** dims
    numbers: Sequence[Any] = factor if isinstance(factor, (tuple, list)) else ()
    if len(numbers) == 1:
        return _product(numbers[0], dims)
    return math.prod(
        (Fraction(n).limit_denominator(64) for n in numbers if isinstance(n, (int, float))), start=Fraction(1)
    )
