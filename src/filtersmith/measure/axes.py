"""In which dimension of what a layer gives its channels stand."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from filtersmith.common.options import bad_option
from filtersmith.filters import channel_axis, has_filters, sums_branches


def is_layer_norm(module: nn.Module) -> bool:
    """Whether a module normalises over trailing dimensions: layer norm, RMS norm, those of other libraries."""
    return bool(_normalised(module))


def axis_of(name: str, module: nn.Module, output: Tensor, given: int | None, *, tokens: bool) -> int:
    """The dimension of a layer's output that has its channels, from 0.

    Known by themselves are convolutions, linear layers, norms, and whatever gives ``(N, C)``. Of others (blocks,
    activations, pooling) it is the one that is ``given``; else 1, unless channels may stand last in the network.

    Args:
        name: of the layer.
        module: the layer.
        output: what it gives, of at least two dimensions.
        given: what the user says of layers that aren't known by themselves.
        tokens: whether the network has a layer norm, and so may have its channels last.

    Raises:
        ValueError: it cannot be told, or the output has no such dimension.
    """
    axis = _known(module, output)
    if axis is not None:
        return axis % output.ndim
    if given is not None:
        if not -output.ndim <= given < output.ndim or given % output.ndim == 0:
            raise bad_option(
                "channel_axis", given, f"a dimension of {tuple(output.shape)}, layer {name!r}, but the first"
            )
        return given % output.ndim
    if tokens or is_layer_norm(module):
        raise ValueError(
            f"layer {name!r} gives {tuple(output.shape)}, and which dimension has the channels cannot be told beside "
            "layer norms: say it with fs.measure.activations(..., channel_axis=)"
        )
    return 1


def _known(module: nn.Module, output: Tensor) -> int | None:
    if has_filters(module) or sums_branches(module):
        return channel_axis(module)
    if output.ndim == 2 or isinstance(module, (_NormBase, nn.GroupNorm)) or "BatchNorm" in type(module).__name__:
        return 1
    shape = _normalised(module)
    if len(shape) != 1:
        return None
    if type(module).forward in (nn.LayerNorm.forward, nn.RMSNorm.forward):
        return -1
    fit = [axis for axis in (1, -1) if output.shape[axis] == shape[0]]  # `LayerNorm2d` of images (N, C, H, W)
    return fit[0] if len(fit) == 1 else None


def _normalised(module: Any) -> tuple[int, ...]:
    shape = getattr(module, "normalized_shape", ())
    return tuple(shape) if isinstance(shape, (tuple, list)) else (int(shape),)
