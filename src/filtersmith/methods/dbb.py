"""DBB: diverse branch blocks.

**Paper.** *Diverse Branch Block: Building a Convolution as an Inception-like Unit*, Ding et al., CVPR 2021,
https://arxiv.org/abs/2103.13425

**What it does.** Trains four branches in the place of every convolution, and deploys their sum, one kernel::

    y = BN(K * x) + BN(P * x) + BN(K2 * BN(P2 * x)) + BN(avg(BN(P3 * x)))      K, K2: k x k    P, P2, P3: 1x1

avg is the mean over windows of k x k. Convolution and batch norm of the network become the first term. P2 starts as
the identity; the other kernels are drawn as torch draws a layer's weights. Unlike with KFLO the outputs therefore
change when the network is expanded.

**When to use it.** To train from scratch a network with batch norms whose deployed form must stay as it is, where
training may cost several times as much. Before the optimizer is made; collapse after training::

    training = fs.compose("dbb")  # in any loop: prepare() expands, finish() collapses
    fs.expand(model, fs.DBB())  # alone
    optimizer = torch.optim.SGD(fs.param_groups(model, weight_decay=1e-4), lr=0.1, momentum=0.9)
    deployed = fs.collapse(model)  # after training

**When not to use it.** On a trained network: its outputs change, since most new kernels start at random. With few
epochs at a small learning rate: at 0.002 it lost 1.6 points. With few steps at a large one: the sum of four branches
starts with twice the spread of one, and at 0.1 without a warm-up it did not train on 200 digits (48% against 92%,
where 0.02 trains it). Where the collapsed network is trained further (see Compatibility). Where time is short: for
each layer a step runs two convolutions of the kernel's size and three 1x1 ones.

**Options.** None. All two-dimensional convolutions are expanded but for 1x1 and, as in the authors' code, kernels of
7 and more; name the latter in ``layers`` of ``fs.expand`` to expand them.

**Where paper, authors' code and we differ.** For the sum to be one convolution, the inner batch norms' outputs have
to be padded with what they make of zero. We pad the input of P2 and P3 instead, which is the same in evaluation mode;
in training the padding then follows the statistics of the batch, which count the border. The authors' code pads
behind the batch norm, with a constant from its running statistics that passes no gradient on. It trains P2 as its
difference from the identity, so that weight decay draws it there; ours is plain. For depthwise convolutions it leaves
P and P3 out and doubles the channels between P2 and K2; we keep the paper's four branches, every 1x1 convolution with
the groups of the kernel. It takes no other padding than k // 2, and its averages leave dilation out.

Each branch's last batch norm starts at the weight that the network's has: 1, as in the code, for a usual network, and
one that starts at zero (``zero_init_residual``) keeps the block at zero. A convolution with a bias and no batch norm
behind it gets one; one without either, like the second of a pre-activation block, is left plain: the deployed network
would have no place for the folded bias.

**Compatibility.** ``nn.Conv2d`` with odd kernels, also 3x5 and 1x3; grouped and depthwise; any stride, padding,
padding mode and dilation; ``BatchNorm2d`` and ``SyncBatchNorm`` with running statistics, affine or not;
channels_last, autocast, DDP (expand first), ``torch.compile``. On collapse the folded bias goes into the
convolution's, or where it has none into that of the batch norm, which is otherwise neutral. So the collapsed network
is for deployment: in training mode its batch norms would normalise anew. Which batch norm reads which convolution is
read off the network's graph (torch.fx); where the network cannot be traced, off its parts. A subclass of these
batch norms that normalises and then calls its children (timm's BatchNormAct2d) is tried on noise, and expanded, too.
What has hooks, a replaced ``forward``, a place in a plain list or a function, a weight that other code reads, or a
caller that torch.fx cannot trace is left plain: ``fs.why_not`` says which. WAU, RePr, DSD and Prune
refuse it.

**Measured results.** On CIFAR-10 (JPEG) with Cifar-quick, 15 epochs, 2 seeds: 79.9% against 79.3% of plain training.
On C^3(32) at a learning rate of 0.002, 2 seeds: 70.0% against 71.6%. On digits with 200 images, 20 seeds, the
difference is −0.36 [−0.97, +0.25] points (95% interval). All tables: ``results/README.md``; what a step costs:
``benchmarks/README.md``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from filtersmith.reparam import Branches, layers_not_expanded
from filtersmith.reparam.branches import (
    Branch,
    Folded,
    add,
    average_pool,
    compose,
    fuse,
    is_small,
    last_batch_norm,
    new_batch_norm,
    new_convolution,
    pad,
    refusal,
    spread,
)
from filtersmith.reparam.expand import expand


class PointKernel(nn.Module):
    """1x1 convolution, batch norm, convolution of full size, batch norm; of an input that is padded already."""

    def __init__(self, conv: nn.Conv2d, bn: Any) -> None:
        super().__init__()
        self.point: nn.Conv2d = new_convolution(conv, conv.in_channels, (1, 1))
        nn.init.dirac_(self.point.weight, conv.groups)
        self.point_bn: Any = new_batch_norm(bn, conv.in_channels)
        self.conv: nn.Conv2d = new_convolution(
            conv, conv.out_channels, conv.kernel_size, stride=conv.stride, dilation=conv.dilation
        )
        self.bn: Any = last_batch_norm(bn)

    def forward(self, padded: Tensor) -> Tensor:
        normed: Tensor = self.bn(self.conv(self.point_bn(self.point(padded))))
        return normed

    def folded(self) -> Folded:
        """Kernel and bias."""
        second, bias = fuse(self.conv.weight, None, self.bn)
        first = fuse(self.point.weight, None, self.point_bn)
        kernel, of_first = compose(first, second, self.conv.groups)
        return kernel, bias + of_first


class PointAverage(nn.Module):
    """1x1 convolution, batch norm, average pooling, batch norm; of an input that is padded already."""

    def __init__(self, conv: nn.Conv2d, bn: Any) -> None:
        super().__init__()
        self._window = conv.kernel_size, conv.stride, conv.dilation
        self.point: nn.Conv2d = new_convolution(conv, conv.out_channels, (1, 1))
        self.point_bn: Any = new_batch_norm(bn, conv.out_channels)
        self.bn: Any = last_batch_norm(bn)

    def forward(self, padded: Tensor) -> Tensor:
        normed: Tensor = self.bn(average_pool(self.point_bn(self.point(padded)), *self._window))
        return normed

    def folded(self) -> Folded:
        """Kernel and bias."""
        point, bias = fuse(self.point.weight, None, self.point_bn)
        # The window's mean leaves a bias as it is, so the last batch norm can be fused with the 1x1 convolution.
        kernel, bias = fuse(point, bias, self.bn)
        return spread(kernel, self._window[0]), bias


class DiverseBlock(Branches):
    """The four branches.

    Args:
        conv: the convolution; stays the first branch's.
        bn: the batch norm behind it; stays the first branch's.
    """

    conv: nn.Conv2d

    def __init__(self, conv: nn.Conv2d, bn: Any) -> None:
        super().__init__()
        self.conv = conv
        self.bn = bn
        self.point: Branch = Branch(conv, bn, (1, 1))
        self.sequence: PointKernel = PointKernel(conv, bn)
        self.average: PointAverage = PointAverage(conv, bn)

    def forward(self, input: Tensor) -> Tensor:
        padded = pad(input, self.conv)
        centred = input if self.conv.padding_mode == "zeros" else padded
        total: Tensor = self.bn(self.conv(input)) + self.point(centred) + self.sequence(padded) + self.average(padded)
        return total

    @torch.no_grad()
    def fold(self) -> Folded:
        """Kernel and bias of the one convolution that computes the same in evaluation mode."""
        first = fuse(self.conv.weight, self.conv.bias, self.bn)
        return add(first, self.point.folded(), self.sequence.folded(), self.average.folded())


class DBB:
    """Train four diverse branches in the place of each convolution, and deploy their sum.

    Hand it to `filtersmith.expand` before the optimizer is made; `filtersmith.collapse` gives the plain network back.

    Example:
        >>> import torch, filtersmith as fs
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, bias=False), torch.nn.BatchNorm2d(8))
        >>> model = fs.expand(model, fs.DBB())
        >>> sorted(tuple(p.shape) for p in model.parameters() if p.ndim == 4)
        [(3, 3, 1, 1), (8, 3, 1, 1), (8, 3, 1, 1), (8, 3, 3, 3), (8, 3, 3, 3)]
        >>> [tuple(p.shape) for p in fs.collapse(model).parameters()]  # after training
        [(8, 3, 3, 3), (8,), (8,)]

    It takes no options. `filtersmith.expand` raises ``ValueError`` for a convolution that is named and cannot be
    expanded.

    Source: *Diverse Branch Block*, CVPR 2021, https://arxiv.org/abs/2103.13425
    """

    def __repr__(self) -> str:
        return "DBB()"

    def prepare(self, model: nn.Module) -> nn.Module:
        """Expand the network, as `filtersmith.expand` does."""
        return expand(model, self)

    def wants(self, conv: nn.Module) -> bool:
        """Every convolution that can be expanded and is smaller than 7 (authors' code)."""
        return isinstance(conv, nn.Conv2d) and self.refuses(conv) is None and is_small(conv)

    def refuses(self, conv: nn.Module) -> str | None:
        """Why a convolution cannot be expanded, or ``None``."""
        if type(conv) is nn.Conv2d and conv.kernel_size == (1, 1):
            return "a 1x1 convolution has no window for other branches"
        return refusal(conv)

    def block(self, conv: nn.Conv2d, bn: nn.Module) -> Branches:
        """The block that takes the place of a convolution and the batch norm behind it, which it keeps."""
        return DiverseBlock(conv, bn)

    @classmethod
    def why_not(cls, model: nn.Module, **options: Any) -> dict[str, str]:
        """Layer -> why it is not expanded, for `filtersmith.why_not`; with the options of the class."""
        return layers_not_expanded(model, cls(**options))
