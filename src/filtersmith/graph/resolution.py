"""How much smaller the images become on their way through a network, read off its graph."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.pooling import (
    _AdaptiveAvgPoolNd,
    _AdaptiveMaxPoolNd,
    _AvgPoolNd,
    _LPPoolNd,
    _MaxPoolNd,
    _MaxUnpoolNd,
)

from filtersmith.common.modules import deep_copy
from filtersmith.graph.answers import as_function
from filtersmith.graph.carriers import ADDS_UP, MEASURES, MOVES_DATA
from filtersmith.graph.classes import is_torchs
from filtersmith.graph.ops import OPERATIONS, shape_of
from filtersmith.graph.probe import fewer_positions
from filtersmith.graph.trace import Part


@dataclass(frozen=True)
class Resolution:
    """How densely an image is sampled. A border that is padded, cropped or lost to a convolution does not change it.

    Attributes:
        factors: for each dimension of space how many times fewer positions it has than the one it is made of: 2
            behind a stride of 2.
        fixed: the size that it is made of; ``None``: that of the network's images, else one that the code says, as an
            adaptive pooling does.
    """

    factors: tuple[Fraction, ...]
    fixed: Any = None


_POOLS = (
    *(F.max_pool1d, F.max_pool2d, F.max_pool3d, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d),
    *(torch.max_pool1d, torch.max_pool2d, torch.max_pool3d),
    *(F.max_pool1d_with_indices, F.max_pool2d_with_indices, F.max_pool3d_with_indices),
)
_LP_POOLS = (F.lp_pool1d, F.lp_pool2d, F.lp_pool3d)
_UNPOOLS = (F.max_unpool1d, F.max_unpool2d, F.max_unpool3d)
_ADAPTIVE = (
    *(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d),
    *(F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d),
)
_CONVOLUTIONS = (*(F.conv1d, F.conv2d, F.conv3d), *(torch.conv1d, torch.conv2d, torch.conv3d))
_UNTOLD = (
    *(F.fractional_max_pool2d, F.fractional_max_pool2d_with_indices),
    *(F.fractional_max_pool3d, F.fractional_max_pool3d_with_indices),
    *(F.unfold, F.fold, "unfold", torch.repeat_interleave, "repeat_interleave"),
)
_UNTOLD_MODULES = (nn.FractionalMaxPool2d, nn.FractionalMaxPool3d, nn.Unfold, nn.Fold)
_TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)


def resolutions(part: Part) -> dict[fx.Node, Resolution | None]:
    """The resolution of each value of a network's graph; ``None`` where it cannot be told.

    Values that are no images have one, too. What is not known is tried on noise.
    """
    full = Resolution((Fraction(1),) * spatial(part))
    found: dict[fx.Node, Resolution | None] = {}
    for node in part.graph.nodes:
        before = full if node.op == "placeholder" else _together([found[source] for source in _images(node)])
        found[node] = _behind(part, node, before, found)
    return found


def spatial(part: Part) -> int:
    """Dimensions of space: those of most convolutions."""
    modules = [module for module in part.module.modules() if isinstance(module, _ConvNd)]
    sizes = [len(module.kernel_size) for module in modules]
    return max(set(sizes), key=sizes.count) if sizes else 2


def _images(node: fx.Node) -> list[fx.Node]:
    """What a call reads, without sizes and parameters."""
    return [source for source in node.all_input_nodes if source.op != "get_attr" and _measured(source) is None]


def _measured(node: fx.Node) -> fx.Node | None:
    """The value whose size, or part of it, another value is: ``x.shape[-2:]``; ``None`` if it is none."""
    if node.target == "size" or (node.target is getattr and node.args[1] == "shape"):
        return node.all_input_nodes[0]
    if node.target is operator.getitem:
        return _measured(node.all_input_nodes[0])
    return None


def _together(sources: Sequence[Resolution | None]) -> Resolution | None:
    """Of what is added, multiplied or joined: one position stands for all, what is unknown fits the others."""
    known = [source for source in sources if source is not None]
    images = [source for source in known if source.fixed is None] or known
    return max(images, key=lambda resolution: resolution.factors) if images else None


def _behind(
    part: Part, node: fx.Node, before: Resolution | None, found: dict[fx.Node, Resolution | None]
) -> Resolution | None:
    """The resolution of what a call gives, which reads something of the resolution ``before``."""
    if before is None:
        return None
    dims = len(before.factors)
    if node.op == "call_module":
        module = part.called(node)
        if isinstance(module, _ConvNd) or is_torchs(module) or isinstance(module, _BatchNorm):
            return _behind_module(module, before)
        return _tried(node, deep_copy(module).to("cpu", torch.float64), before)
    if node.op not in ("call_function", "call_method"):
        return before
    target: Any = node.target

    def argument(place: int, name: str) -> Any:
        return node.args[place] if len(node.args) > place else node.kwargs.get(name)

    if target in _ADAPTIVE:
        return _fixed(argument(1, "output_size"), dims)
    if target in (torch.mean, "mean", torch.amax, "amax", torch.sum, "sum"):
        return _without(argument(1, "dim"), before)
    if target in _POOLS:
        stride = argument(2, "stride")
        return _fewer(before, stride if stride not in (None, (), []) else argument(1, "kernel_size"))
    if target in _LP_POOLS:
        stride = argument(3, "stride")
        return _fewer(before, stride if stride is not None else argument(2, "kernel_size"))
    if target in _UNPOOLS:
        stride = argument(3, "stride")
        return _more(before, stride if stride not in (None, (), []) else argument(2, "kernel_size"))
    if target in _UNTOLD:
        return None
    if target in _CONVOLUTIONS:
        return _fewer(before, argument(3, "stride"))
    if target in _TRANSPOSED:
        return _more(before, argument(3, "stride"))
    if target is F.interpolate:
        factor, size = argument(2, "scale_factor"), argument(1, "size")
        return _more(before, factor) if factor is not None else _of_size(size, dims, found)
    if target in (F.pixel_shuffle, torch.pixel_shuffle):
        return _more(before, argument(1, "upscale_factor"))
    if target in (F.pixel_unshuffle, torch.pixel_unshuffle):
        return _fewer(before, argument(1, "downscale_factor"))
    if target is operator.getitem and isinstance(node.args[1], tuple):
        places = node.args[1]
        # Behind an ellipsis up to the last dimension, else behind batch and channels.
        steps = places[places.index(Ellipsis) + 1 :] if Ellipsis in places else (*places[2:], *[None] * dims)[:dims]
        return _fewer(before, tuple(getattr(step, "step", None) or 1 for step in steps))
    if target in _VIEWS:
        return before if _same_grid(shape_of(node), before, found) else None
    if target in OPERATIONS or target in MEASURES or target in ADDS_UP or target in MOVES_DATA - _MAY_SAMPLE:
        return before
    return _tried(node, target, before)


_VIEWS = ("view", "reshape", torch.reshape)
_MAY_SAMPLE = frozenset(("repeat", "tile", torch.tile, "index_select", torch.index_select, "gather", torch.gather))


def _same_grid(shape: tuple[Any, ...], before: Resolution, found: dict[fx.Node, Resolution | None]) -> bool:
    """Whether a view leaves the positions of images where they are; what has fewer dimensions is no image."""
    dims = len(before.factors)
    if len(shape) < dims + 2:
        return True
    measured = [_measured(side) if isinstance(side, fx.Node) else None for side in shape[-dims:]]
    return all(image is not None and found[image] == before for image in measured)


def _tried(node: fx.Node, target: Any, before: Resolution) -> Resolution | None:
    """What a call that is not known does to a little noise; one of several images or of sizes is not tried."""
    if len(node.all_input_nodes) != 1:
        return None
    return _fewer(before, fewer_positions(as_function(node, target), len(before.factors)) or (None,))


def _behind_module(module: nn.Module, before: Resolution) -> Resolution | None:
    if isinstance(module, _ConvNd) and len(module.kernel_size) != len(before.factors):
        return None  # along the channels, for instance
    if isinstance(module, _ConvTransposeNd):
        return _more(before, module.stride)
    if isinstance(module, _ConvNd):
        return _fewer(before, module.stride)
    if isinstance(module, (_MaxPoolNd, _AvgPoolNd, _LPPoolNd)):
        return _fewer(before, module.stride if module.stride is not None else module.kernel_size)
    if isinstance(module, _MaxUnpoolNd):
        return _more(before, module.stride)
    if isinstance(module, _UNTOLD_MODULES):
        return None
    if isinstance(module, (_AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd)):
        return _fixed(module.output_size, len(before.factors))
    if isinstance(module, nn.Upsample):
        if module.scale_factor is not None:
            return _more(before, module.scale_factor)
        return _fixed(module.size, len(before.factors))
    if isinstance(module, nn.PixelShuffle):
        return _more(before, module.upscale_factor)
    return _fewer(before, module.downscale_factor) if isinstance(module, nn.PixelUnshuffle) else before


def _of_size(size: Any, dims: int, found: dict[fx.Node, Resolution | None]) -> Resolution | None:
    """Of an image that is made as large as the code says: as another one, or of so many positions."""
    given = size if isinstance(size, (tuple, list)) else [size]
    measured = [_measured(number) if isinstance(number, fx.Node) else None for number in given]
    if measured[0] is not None and len(set(measured)) == 1:
        return found[measured[0]]
    return _fixed(size, dims) if all(isinstance(number, int) for number in given) else None


def _fixed(size: Any, dims: int) -> Resolution:
    return Resolution((Fraction(1),) * dims, _each(size, dims) if size is not None else "unknown")


def _without(dims: Any, before: Resolution) -> Resolution | None:
    """Without the dimensions ``dims``, or with one position left in each."""
    spatial = len(before.factors)
    listed = [dims] if isinstance(dims, int) else list(dims) if isinstance(dims, (tuple, list)) else None
    if listed is None:
        return _fixed(1, spatial)
    gone = {dim % (spatial + 2) - 2 for dim in listed if isinstance(dim, int)} & set(range(spatial))
    if not gone:
        return before
    return _fixed(1, spatial) if len(gone) == spatial else None


def _fewer(before: Resolution, steps: Any) -> Resolution | None:
    """``steps`` times fewer positions, one number for all dimensions or one for each; of fewer ones the last."""
    numbers = _each(steps if steps is not None else 1, len(before.factors))
    if not all(isinstance(number, (int, float, Fraction)) for number in numbers):
        return None
    factors = [Fraction(number).limit_denominator(64) for number in numbers]
    return replace(before, factors=tuple(a * b for a, b in zip(before.factors, factors, strict=True)))


def _more(before: Resolution, steps: Any) -> Resolution | None:
    numbers = _each(steps if steps is not None else 1, len(before.factors))
    if not all(isinstance(number, (int, float)) and number > 0 for number in numbers):
        return None
    return _fewer(before, tuple(1 / Fraction(number).limit_denominator(64) for number in numbers))


def _each(numbers: Any, dims: int) -> tuple[Any, ...]:
    """One number stands for each dimension; of a tuple the last belong to the last dimensions."""
    if not isinstance(numbers, (tuple, list)):
        return (numbers,) * dims
    if len(numbers) == 1:
        return (numbers[0],) * dims
    return ((1,) * dims + tuple(numbers))[-dims:]
