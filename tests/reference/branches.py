"""ACNet and DBB branch by branch, as plain networks in float64 that share nothing with the blocks but their values.

A line or a point is a full kernel that is zero elsewhere, for a copy of the convolution itself. What lies behind an
inner batch norm is a chain of modules, on an input that one of torch's padding modules has padded.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

PADS = {
    "zeros": nn.ZeroPad2d,
    "reflect": nn.ReflectionPad2d,
    "replicate": nn.ReplicationPad2d,
    "circular": nn.CircularPad2d,
}


class Sum(nn.Module):
    """The sum of its branches."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([branch(x) for branch in self.branches]).sum(0)


class WindowMean(nn.Module):
    """The mean over each window, by gathering the windows."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = (conv,)

    def forward(self, x: Tensor) -> Tensor:
        conv = self.conv[0]
        sizes = [
            (n - d * (k - 1) - 1) // s + 1
            for n, d, k, s in zip(x.shape[2:], conv.dilation, conv.kernel_size, conv.stride, strict=True)
        ]
        windows = nn.functional.unfold(x, conv.kernel_size, conv.dilation, 0, conv.stride)
        return windows.view(len(x), x.shape[1], -1, *sizes).mean(2)


def centred(conv: nn.Conv2d, kernel: Tensor) -> nn.Conv2d:
    """A copy of ``conv`` without bias whose kernel is ``kernel`` in the centre of zeros."""
    made = copy.deepcopy(conv).double()
    made.bias = None
    rows, columns = kernel.shape[2:]
    with torch.no_grad():
        made.weight.zero_()
        top, left = conv.kernel_size[0] // 2 - rows // 2, conv.kernel_size[1] // 2 - columns // 2
        for i in range(rows):
            for j in range(columns):
                made.weight[:, :, top + i, left + j] = kernel[:, :, i, j]
    return made


def padding(conv: nn.Conv2d) -> nn.Module:
    """The padding of ``conv`` as a module."""
    size: Any = conv.padding
    if size == "same":
        size = [d * (k - 1) // 2 for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
    if size == "valid":
        size = [0, 0]
    return PADS[conv.padding_mode]((size[1], size[1], size[0], size[0]))


def of_kernel(kernel: Tensor, groups: int, stride: Any = 1, dilation: Any = 1) -> nn.Conv2d:
    """A convolution without padding and bias that has this kernel."""
    outputs, inputs, *size = kernel.shape
    made = nn.Conv2d(inputs * groups, outputs, size, stride, 0, dilation, groups, bias=False, dtype=torch.float64)
    with torch.no_grad():
        made.weight.copy_(kernel)
    return made


def acnet(block: Any) -> Sum:
    """The square, the vertical and the horizontal branch, with copies of a block's values."""
    parts = copy.deepcopy(block).double()
    vertical, horizontal = parts.vertical, parts.horizontal
    return Sum(
        nn.Sequential(parts.conv, parts.bn),
        nn.Sequential(centred(block.conv, vertical.conv.weight), vertical.bn),
        nn.Sequential(centred(block.conv, horizontal.conv.weight), horizontal.bn),
    )


def dbb(block: Any) -> Sum:
    """The four branches, with copies of a block's values."""
    parts = copy.deepcopy(block).double()
    conv, point, kernel, average = block.conv, parts.point, parts.sequence, parts.average
    return Sum(
        nn.Sequential(parts.conv, parts.bn),
        nn.Sequential(centred(conv, point.conv.weight), point.bn),
        nn.Sequential(
            padding(conv),
            of_kernel(kernel.point.weight, conv.groups),
            kernel.point_bn,
            of_kernel(kernel.conv.weight, conv.groups, conv.stride, conv.dilation),
            kernel.bn,
        ),
        nn.Sequential(
            padding(conv),
            of_kernel(average.point.weight, conv.groups),
            average.point_bn,
            WindowMean(conv),
            average.bn,
        ),
    )


def norms(network: nn.Module) -> list[Any]:
    """The batch norms, in their order."""
    return [part for part in network.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]


def randomise(block: nn.Module) -> None:
    """Give every batch norm statistics and affine values as after some training."""
    with torch.no_grad():
        for bn in norms(block):
            bn.running_mean.normal_(0, 0.5)
            bn.running_var.uniform_(0.3, 2)
            if bn.affine:
                bn.weight.uniform_(-1.5, 1.5)
                bn.bias.normal_(0, 0.5)


def make(method: Any, conv: nn.Conv2d, bn: nn.Module) -> Any:
    """The block of a pair, which it has to keep."""
    assert method.refuses(conv) is None
    block = method.block(conv, bn)
    assert block.conv is conv
    assert block.bn is bn
    return block


def folded(block: Any) -> nn.Conv2d:
    """A plain convolution with the folded kernel and bias of a block."""
    conv = copy.deepcopy(block.conv)
    kernel, bias = block.fold()
    assert kernel.shape == conv.weight.shape
    assert bias.shape == (conv.out_channels,)
    assert kernel.dtype == bias.dtype == torch.float64
    assert not kernel.requires_grad
    conv.weight, conv.bias = nn.Parameter(kernel.to(conv.weight)), nn.Parameter(bias.to(conv.weight))
    return conv


def compare(block: Any, naive: Sum, x: Tensor) -> None:
    """Outputs and gradients in both modes, statistics, and the fold, all in float64."""
    for mode in (True, False):
        inputs = [x.clone(memory_format=torch.preserve_format).requires_grad_() for _ in range(2)]
        y, expected = block.train(mode)(inputs[0]), naive.train(mode)(inputs[1])
        torch.testing.assert_close(y, expected)
        weights = torch.randn_like(y)
        (expected_grad,) = torch.autograd.grad((expected * weights).sum(), inputs[1])
        # raises where a parameter has no part in the output
        grad, *_ = torch.autograd.grad((y * weights).sum(), [inputs[0], *block.parameters()])
        torch.testing.assert_close(grad, expected_grad)
    for norm, copied in zip(norms(block), norms(naive), strict=True):
        torch.testing.assert_close(norm.state_dict(), copied.state_dict())
    torch.testing.assert_close(folded(block)(x), y, rtol=1e-9, atol=1e-9)


@st.composite
def pairs(draw: Any, sizes: tuple[int, ...] = (3, 5)) -> tuple[nn.Conv2d, nn.Module, Tensor]:
    """A convolution, a batch norm and an input, all float64."""
    size = draw(st.sampled_from(sizes)), draw(st.sampled_from(sizes))
    size = size if size != (1, 1) else (3, 1)
    dilation = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    stride = draw(st.sampled_from((1, 2, (1, 2))))
    padding = draw(st.one_of(st.tuples(st.integers(0, 4), st.integers(0, 4)), st.sampled_from(("same", "valid"))))
    groups, outputs = draw(st.sampled_from(((1, 5), (1, 4), (2, 4), (2, 6), (4, 4), (4, 8))))  # of 4 inputs
    conv = nn.Conv2d(
        4,
        outputs,
        size,
        1 if padding == "same" else stride,
        padding,
        dilation,
        groups,
        bias=draw(st.booleans()),
        padding_mode=draw(st.sampled_from(tuple(PADS))),
        dtype=torch.float64,
    )
    kind = draw(st.sampled_from((nn.BatchNorm2d, nn.SyncBatchNorm)))
    bn = kind(outputs, draw(st.sampled_from((1e-5, 1e-2))), draw(st.sampled_from((0.1, None))), draw(st.booleans()))
    x = torch.randn(2, 4, 10, 11, dtype=torch.float64)
    if draw(st.booleans()):
        conv, x = conv.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    return conv, bn.double(), x
