"""Convolutions whose backward pass computes the gradients of some of their filters, and zeros for the others.

A third of a training step's arithmetic is that of gradients of weights. Where only some filters will move, that of
the others can be left out: each filter's gradient is a convolution of the inputs with the gradient of its own output
channel, so that the gradients that are computed are the same as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.nn.modules.conv import Conv1d, Conv2d, Conv3d
from torch.nn.utils.parametrize import is_parametrized

from filtersmith.common.modules import memory_format
from filtersmith.filters.layer import FilterLayer


def convolve(
    inputs: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    active: Tensor,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
) -> Tensor:
    """A dense convolution with zero padding; the gradient of ``weight`` is 0 but for its ``active`` rows.

    Args:
        inputs: shape ``(b, c, *sizes)``, or ``(c, *sizes)``.
        weight: shape ``(n, c, *k)``.
        bias: shape ``(n,)``, or ``None``; its gradient is complete.
        active: int64 indices of filters, each once.
        stride, padding, dilation: one number for each of the sizes.

    Returns:
        What ``torch.nn.functional.conv1d``, ``conv2d`` or ``conv3d`` return, under autocast, too. A gradient of the
        gradient of the inputs has all rows.

    >>> images, weight = torch.ones(1, 1, 2, 2), torch.ones(2, 1, 2, 2, requires_grad=True)
    >>> convolve(images, weight, None, torch.tensor([1]), (1, 1), (0, 0), (1, 1)).sum().backward()
    >>> weight.grad.flatten(1).tolist()
    [[0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]]
    """
    if torch.is_autocast_enabled(inputs.device.type):
        dtype = torch.get_autocast_dtype(inputs.device.type)
        inputs, weight = _cast(inputs, dtype), _cast(weight, dtype)
        bias = None if bias is None else _cast(bias, dtype)
    batch = inputs if inputs.ndim == weight.ndim else inputs.unsqueeze(0)
    result: Tensor = _PartGradient.apply(batch, weight, bias, active, stride, padding, dilation)
    return result if inputs.ndim == weight.ndim else result.squeeze(0)


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """As autocast does: numbers of double precision stay."""
    return tensor.to(dtype) if tensor.is_floating_point() and tensor.dtype != torch.float64 else tensor


class _PartGradient(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        active: Tensor,
        *geometry: tuple[int, ...],
    ) -> Tensor:
        stride, padding, dilation = geometry
        return torch.convolution(inputs, weight, bias, stride, padding, dilation, False, (0,) * len(stride), 1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        images, weight, bias, active, *ctx.geometry = inputs
        ctx.biases = None if bias is None else list(bias.shape)
        ctx.save_for_backward(images, weight, active)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        images, weight, active = ctx.saved_tensors
        of_images, of_weight, of_bias = ctx.needs_input_grad[:3]
        how = (*ctx.geometry, False, [0] * len(ctx.geometry[0]), 1)
        backward: Callable[..., tuple[Tensor, Tensor, Tensor]] = torch.ops.aten.convolution_backward
        images_gradient = weight_gradient = bias_gradient = None
        if of_images or of_bias:
            wanted = [of_images, False, of_bias]
            images_gradient, _, bias_gradient = backward(gradient, images, weight, ctx.biases, *how, wanted)
        if of_weight and len(active) == 0:
            weight_gradient = torch.zeros_like(weight)
        elif of_weight:
            like = weight.narrow(0, 0, len(active))  # for its shape: no gradient of a weight depends on the weight
            part = backward(_channels(gradient, active), images, like, None, *how, [False, True, False])[1]
            zeros = part.new_empty_strided(weight.shape, weight.stride()).zero_()  # batched where the part is (vmap)
            weight_gradient = zeros.index_copy_(0, active, part)
        return images_gradient, weight_gradient, bias_gradient, None, None, None, None


def _channels(tensor: Tensor, chosen: Tensor) -> Tensor:
    """Some channels, in the layout of the tensor, which ``index_select`` by itself makes contiguous."""
    if memory_format(tensor) == torch.contiguous_format:
        return tensor.index_select(1, chosen)
    last = tensor.movedim(1, -1)
    pixels = last.flatten(0, -2)
    # On a CPU index_select takes a quarter of the time with two dimensions that it takes with four, and four times
    # as long as gather where numbers have two bytes.
    small = tensor.itemsize < 4
    some = pixels.gather(1, chosen.expand(len(pixels), -1)) if small else pixels.index_select(1, chosen)
    return some.view(*last.shape[:-1], len(chosen)).movedim(-1, 1)


class PartGradient:
    """Makes modules compute the gradients of some of their filters, from `start` to `stop`.

    It stands in the place of the method of a convolution that computes; a copy of the module has that method.

    Args:
        layer: whose filters.
        modules: that have its weight, of which `reason_for_whole_gradient` says nothing.
        fixed: whether equally many are chosen each time. Otherwise what is compiled computes all gradients: each
            number of filters would be compiled anew.
    """

    def __init__(self, layer: FilterLayer, modules: Iterable[nn.Module], fixed: bool = True) -> None:
        self.layer: FilterLayer = layer
        self._modules = list(modules)
        self._fixed = fixed
        self._active = torch.empty(0, dtype=torch.int64)
        self._all = True

    def choose(self, active: Tensor) -> None:
        """Which are computed, until others are chosen: int64 indices, on the device of the weight. All to begin with.

        The caller may write others into the same tensor: what is compiled stays so.
        """
        self._active = active
        self._all = len(active) == self.layer.filters

    @property
    def leaves_out(self) -> bool:
        """Whether the gradient of a filter is left out now."""
        return not self._all

    def choose_all(self) -> None:
        """All are computed, until others are chosen."""
        self._all = True

    def start(self) -> None:
        """From now on those that are chosen. Harmless when done already."""
        for module in self._modules:
            module._conv_forward = _Instead(module, self)  # type: ignore[assignment]

    def stop(self) -> None:
        """All gradients from now on. Harmless when done already."""
        for module in self._modules:
            vars(module).pop("_conv_forward", None)

    def convolve(self, module: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not (torch.is_grad_enabled() and weight.requires_grad) or self._cannot() or self._all:
            return type(module)._conv_forward(module, inputs, weight, bias)  # type: ignore[no-any-return]
        padding = module.padding
        if module.padding_mode != "zeros" or isinstance(padding, str):
            around, mode = module._reversed_padding_repeated_twice, module.padding_mode
            inputs = F.pad(inputs, around, mode="constant" if mode == "zeros" else mode)
            padding = (0,) * len(module.stride)
        active = self._active.to(weight.device)  # another one in a replica of DataParallel
        return convolve(inputs, weight, bias, active, module.stride, padding, module.dilation)

    def _cannot(self) -> bool:
        """Whether what runs now follows the module's own way alone."""
        if torch.compiler.is_compiling():
            return not self._fixed
        return torch._C._get_tracing_state() is not None or forward_ad._current_level >= 0


class _Instead:
    """What is called in the place of a module's ``_conv_forward``."""

    def __init__(self, module: nn.Module, part: PartGradient) -> None:
        self.module, self.part = module, part

    def __call__(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return self.part.convolve(self.module, inputs, weight, bias)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return memo.get(id(self.module), self.module)._conv_forward

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self.module, "_conv_forward")


def reason_for_whole_gradient(module: nn.Module) -> str | None:
    """Why a layer's backward pass cannot leave filters out, as a sentence about "it"; ``None`` where it can."""
    kind: Any = next((kind for kind in (Conv1d, Conv2d, Conv3d) if isinstance(module, kind)), None)
    if kind is None:
        return f"it is a {type(module).__name__}"
    if is_parametrized(module, "weight"):
        return "its weight is computed"
    if any(parameter.is_complex() for parameter in module.parameters(recurse=False)):
        return "its weight is complex"
    for name in ("forward", "_conv_forward"):
        own = vars(module).get(name)
        copied = own is not None and getattr(own, "__self__", None) is module  # what a copy has of `_Instead`
        if (own is not None and not copied) or getattr(type(module), name) is not getattr(kind, name):
            return f"this {type(module).__name__} computes in a way of its own"
    return f"it has {module.groups} groups" if module.groups != 1 else None
