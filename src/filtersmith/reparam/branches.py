"""Blocks of branches, each a convolution and a batch norm, that sum up to one convolution: what ACNet and DBB share.

First the algebra that folds branches into one kernel, in float64; then the parts that the blocks are built of. All
kernels lie as ``nn.Conv2d`` has them: ``(n, c/g, kh, kw)`` for n outputs, c inputs and g groups.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from filtersmith.common.modules import memory_format

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)

Folded = tuple[Tensor, Tensor]
"""A kernel and its bias, float64."""


def fuse(kernel: Tensor, bias: Tensor | None, bn: Any) -> Folded:
    """The convolution that computes what a convolution and the batch norm behind it do in evaluation mode."""
    scale = (_exact(bn.running_var) + bn.eps).rsqrt()
    shift = -_exact(bn.running_mean) if bias is None else _exact(bias) - _exact(bn.running_mean)
    if bn.weight is not None:
        scale = scale * _exact(bn.weight)
    shift = shift * scale if bn.bias is None else shift * scale + _exact(bn.bias)
    return _exact(kernel) * scale[:, None, None, None], shift


def embed(kernel: Tensor, size: tuple[int, ...]) -> Tensor:
    """The kernel in the centre of a larger one, zero around it. All four sizes are odd."""
    rows, columns = ((large - small) // 2 for large, small in zip(size, kernel.shape[2:], strict=True))
    return F.pad(kernel, (columns, columns, rows, rows))


def spread(point: Tensor, size: tuple[int, ...]) -> Tensor:
    """The kernel of a 1x1 convolution followed by average pooling with windows of ``size``."""
    return (point / math.prod(size)).expand(-1, -1, *size)


def compose(first: Folded, kernel: Tensor, groups: int) -> Folded:
    """A 1x1 convolution followed by one with ``kernel``, as one: its kernel, and what the first's bias becomes.

    It is exact at the borders, too, where the padding of the second one holds what the first makes of zeros.

    Args:
        first: shapes ``(m, c/g, 1, 1)`` and ``(m,)``.
        kernel: shape ``(n, m/g, kh, kw)``.
        groups: g, of both.

    Returns:
        shapes ``(n, c/g, kh, kw)`` and ``(n,)``.
    """
    point, bias = first
    of_groups = kernel.unflatten(0, (groups, -1))
    composed = torch.einsum("gnmhw,gmc->gnchw", of_groups, point.flatten(1).unflatten(0, (groups, -1)))
    return composed.flatten(0, 1), torch.einsum("gnmhw,gm->gn", of_groups, bias.unflatten(0, (groups, -1))).flatten()


def add(*folded: Folded) -> Folded:
    """Kernel and bias of a sum of branches, whose kernels have one shape."""
    kernels, biases = zip(*folded, strict=True)
    return sum(kernels[1:], kernels[0]), sum(biases[1:], biases[0])


def refusal(conv: nn.Module) -> str | None:
    """Why a module cannot become a block with a branch in the centre of its kernel, or ``None``."""
    if type(conv) is not nn.Conv2d:
        return f"it is a {type(conv).__name__}, and only a plain Conv2d becomes a block of branches"
    if any(size % 2 == 0 for size in conv.kernel_size):
        return f"its kernel of {conv.kernel_size[0]}x{conv.kernel_size[1]} has no centre"
    return None


def is_small(conv: nn.Conv2d) -> bool:
    """Smaller than 7: the kernels that the code of both papers' authors expands."""
    return max(conv.kernel_size) < 7


def padding_of(conv: nn.Conv2d) -> tuple[int, int]:
    """How many rows and columns a convolution with an odd kernel pads at each side."""
    if conv.padding == "valid":
        return 0, 0
    if conv.padding == "same":
        return conv.dilation[0] * (conv.kernel_size[0] // 2), conv.dilation[1] * (conv.kernel_size[1] // 2)
    assert not isinstance(conv.padding, str), "torch knows no other names"
    rows, columns = conv.padding
    return rows, columns


def pad(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """The input padded as ``conv`` does; itself where there is nothing to pad."""
    rows, columns = padding_of(conv)
    if rows == columns == 0:
        return x
    mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
    return F.pad(x, (columns, columns, rows, rows), mode=mode)


def average_pool(x: Tensor, size: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]) -> Tensor:
    """The mean over each window, of an input that is padded already."""
    if max(dilation) == 1:
        return F.avg_pool2d(x, size, stride)
    kernel = x.new_full((x.shape[1], 1, *size), 1 / math.prod(size))  # torch's pooling knows no dilation
    return F.conv2d(x, kernel, None, stride, 0, dilation, x.shape[1])


def plain_class(bn: nn.Module) -> Any:
    """The class of torch's batch norms that a module is of, or derived from; ``None`` where it is neither."""
    return next((cls for cls in type(bn).__mro__ if cls in BATCH_NORMS), None)


def new_convolution(conv: nn.Conv2d, outputs: int, size: tuple[int, ...], **options: Any) -> nn.Conv2d:
    """A convolution without bias with the inputs and groups of ``conv``, drawn as torch draws it, on its device."""
    options |= {"groups": conv.groups, "bias": False, "device": conv.weight.device, "dtype": conv.weight.dtype}
    made = nn.Conv2d(conv.in_channels, outputs, (size[0], size[1]), **options)
    return made.to(memory_format=memory_format(conv.weight))


def new_batch_norm(bn: Any, channels: int) -> Any:
    """A fresh batch norm of the kind of ``bn``."""
    options = {"process_group": bn.process_group} if isinstance(bn, nn.SyncBatchNorm) else {}
    like = {"device": bn.running_mean.device, "dtype": bn.running_mean.dtype}
    return type(bn)(channels, bn.eps, bn.momentum, bn.affine, **options, **like)


@torch.no_grad()
def last_batch_norm(bn: Any) -> Any:
    """A fresh batch norm to end a branch with, its weight that of ``bn``: zero where that is zero."""
    made = new_batch_norm(bn, bn.num_features)
    if bn.weight is not None:
        made.weight.copy_(bn.weight)
    return made


class Branches(nn.Module, ABC):
    """Base of the blocks that take the place of a convolution and the batch norm behind it.

    Attributes:
        conv: the convolution itself, now one of the branches.
        bn: the batch norm behind it, now that branch's own.
        absorbed: what stands in the batch norm's place, in a tuple: referred to, not owned. Empty if ``bn`` is new.
    """

    conv: nn.Module
    bn: nn.Module
    sums_branches = True  # `filtersmith.filters` looks for it

    def __init__(self) -> None:
        super().__init__()
        self.absorbed: tuple[Absorbed, ...] = ()

    def __getattr__(self, name: str) -> Any:
        """What code asks of a convolution is that of ``conv``: its sizes, stride, padding, dilation and groups."""
        if name in _GEOMETRY and "conv" in vars(self).get("_modules", ()):
            return getattr(self.conv, name)
        return super().__getattr__(name)

    @abstractmethod
    def fold(self) -> Folded:
        """Kernel and bias, float64, of the one convolution that computes the same in evaluation mode."""


_GEOMETRY = frozenset(nn.Conv2d.__constants__)


class Absorbed(nn.Identity):
    """Stands where a batch norm was that a block of branches has taken over, and calls what that called itself.

    Args:
        bn: the batch norm. Its children (timm's dropout and activation) are now called here, one by one.

    Attributes:
        kind: the class of the batch norm where it is not one of torch's; in the block it is one of these.
    """

    def __init__(self, bn: nn.Module) -> None:
        super().__init__()
        self.kind: type[nn.Module] | None = None if type(bn) is plain_class(bn) else type(bn)
        self.training: bool = bn.training
        for name, child in bn.named_children():
            self.add_module(name, child)

    def forward(self, input: Tensor) -> Tensor:
        for module in self.children():
            input = module(input)
        return input


class Branch(nn.Module):
    """A convolution whose window is the centre of another's, and its batch norm.

    Args:
        conv: the other one.
        bn: the batch norm behind that.
        size: kernel size of the branch, odd and not larger.
    """

    def __init__(self, conv: nn.Conv2d, bn: nn.Module, size: tuple[int, int]) -> None:
        super().__init__()
        padded = padding_of(conv) if conv.padding_mode == "zeros" else (0, 0)
        geometry = zip(padded, conv.dilation, conv.kernel_size, size, strict=True)
        rows, columns = (p - d * (large - small) // 2 for p, d, large, small in geometry)
        self._crop = max(-rows, 0), max(-columns, 0)  # a window that starts further in than the input does
        self._size = conv.kernel_size
        self.conv: nn.Conv2d = new_convolution(
            conv,
            conv.out_channels,
            size,
            stride=conv.stride,
            padding=(max(rows, 0), max(columns, 0)),
            dilation=conv.dilation,
        )
        self.bn: Any = last_batch_norm(bn)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` is the other convolution's input; padded already if that pads by anything but zeros."""
        rows, columns = self._crop
        if rows or columns:
            x = x[..., rows : x.shape[-2] - rows, columns : x.shape[-1] - columns]
        normed: Tensor = self.bn(self.conv(x))
        return normed

    def folded(self) -> Folded:
        """Kernel, of the other one's size, and bias."""
        kernel, bias = fuse(self.conv.weight, None, self.bn)
        return embed(kernel, self._size), bias


def _exact(tensor: Tensor) -> Tensor:
    # Apple's GPUs have no float64.
    return tensor.double() if tensor.device.type != "mps" else tensor.cpu().double()
