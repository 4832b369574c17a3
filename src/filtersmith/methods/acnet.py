"""ACNet: asymmetric convolution blocks.

**Paper.** *ACNet: Strengthening the Kernel Skeletons for Powerful CNN via Asymmetric Convolution Blocks*, Ding et
al., ICCV 2019, https://arxiv.org/abs/1908.03930

**What it does.** Trains a vertical and a horizontal line kernel beside every kernel, each with a batch norm of its
own, and deploys their sum, one kernel::

    y = BN(K * x) + BN(K_ver * x) + BN(K_hor * x)    K: (n, c/g, k, k)  K_ver: (n, c/g, k, 1)  K_hor: (n, c/g, 1, k)

The windows of the lines are the centre column and row of the kernel's. Convolution and batch norm of the network
become the first term; the line kernels are drawn as torch draws a layer's weights. Unlike with KFLO the outputs
therefore change when the network is expanded.

**When to use it.** To train from scratch a network with batch norms whose deployed form must stay as it is. Before
the optimizer is made; collapse after training::

    training = fs.compose("acnet")  # in any loop: prepare() expands, finish() collapses
    fs.expand(model, fs.ACNet())  # alone
    optimizer = torch.optim.SGD(fs.param_groups(model, weight_decay=1e-4), lr=0.1, momentum=0.9)
    deployed = fs.collapse(model)  # after training

**When not to use it.** On a trained network: its outputs change, since the line kernels start at random. With few
epochs at a small learning rate: at 0.002 it lost half a point. Where the collapsed network is trained further (see
Compatibility). Where time is short: every kernel becomes three convolutions and batch norms.

**Options.** None. All two-dimensional convolutions are expanded but for 1x1 (and other single lines) and, as in the
authors' code, kernels of 7 and more; name the latter in ``layers`` of ``fs.expand`` to expand them.

**Where paper, authors' code and we differ.** The authors' blocks have batch norms of their own wherever they stand;
ours take over the one that reads the convolution's output. A convolution with a bias and no such batch norm gets one.
One without either, like the second of a pre-activation block, is left plain: the deployed network would have no place
for the folded bias. The three batch norms start at a third of the weight that the network's had, for a usual network
the 1/3 of the authors' CIFAR recipes; one that starts at zero (``zero_init_residual``) keeps the block at zero.

**Compatibility.** ``nn.Conv2d`` with odd kernels, also 3x5; grouped and depthwise; any stride, padding, padding mode
and dilation; ``BatchNorm2d`` and ``SyncBatchNorm`` with running statistics, affine or not; channels_last, autocast,
DDP (expand first), ``torch.compile``. On collapse the folded bias goes into the convolution's, or where it has none
into that of the batch norm, which is otherwise neutral. So the collapsed network is for deployment: in training mode
its batch norms would normalise anew. Which batch norm reads which convolution is read off the network's graph
(torch.fx); where the network cannot be traced, off its parts. A subclass of these
batch norms that normalises and then calls its children (timm's BatchNormAct2d) is tried on noise, and expanded, too.
What has hooks, a replaced ``forward``, a place in a plain list or a function, a weight that other code reads, or a
caller that torch.fx cannot trace is left plain: ``fs.why_not`` says which. WAU, RePr, DSD and Prune refuse it.

**Measured results.** On CIFAR-10 (JPEG) with Cifar-quick, 15 epochs, 2 seeds: 80.1% against 79.3% of plain training
(KFLO paper, 150 epochs: 0.6 points more). On C^3(32) at a learning rate of 0.002, 2 seeds: 71.1% against 71.6%. On
digits with 200 images, 20 seeds, the difference is −0.26 [−0.61, +0.08] points (95% interval); in 30 steps, three
epochs of 100 images, it lost 5 to 8 points. All tables: ``results/README.md``; what a step costs:
``benchmarks/README.md``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from filtersmith.reparam import Branches, layers_not_expanded
from filtersmith.reparam.branches import Branch, Folded, add, fuse, is_small, pad, refusal
from filtersmith.reparam.expand import expand


class AsymmetricBlock(Branches):
    """The square, the vertical and the horizontal branch.

    Scales the weight of ``bn`` by a third, in place.

    Args:
        conv: the convolution; stays the square branch's.
        bn: the batch norm behind it; stays the square branch's.
    """

    conv: nn.Conv2d

    def __init__(self, conv: nn.Conv2d, bn: Any) -> None:
        super().__init__()
        if bn.weight is not None:
            with torch.no_grad():
                bn.weight.div_(3)
        rows, columns = conv.kernel_size
        self.conv = conv
        self.bn = bn
        self.vertical: Branch = Branch(conv, bn, (rows, 1))
        self.horizontal: Branch = Branch(conv, bn, (1, columns))

    def forward(self, input: Tensor) -> Tensor:
        square = self.bn(self.conv(input))
        if self.conv.padding_mode != "zeros":
            input = pad(input, self.conv)
        total: Tensor = square + self.vertical(input) + self.horizontal(input)
        return total

    @torch.no_grad()
    def fold(self) -> Folded:
        """Kernel and bias of the one convolution that computes the same in evaluation mode."""
        square = fuse(self.conv.weight, self.conv.bias, self.bn)
        return add(square, self.vertical.folded(), self.horizontal.folded())


class ACNet:
    """Train each kernel with two line kernels beside it, and deploy their sum.

    Hand it to `filtersmith.expand` before the optimizer is made; `filtersmith.collapse` gives the plain network back.

    Example:
        >>> import torch, filtersmith as fs
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, bias=False), torch.nn.BatchNorm2d(8))
        >>> model = fs.expand(model, fs.ACNet())
        >>> sorted(tuple(p.shape) for p in model.parameters() if p.ndim == 4)
        [(8, 3, 1, 3), (8, 3, 3, 1), (8, 3, 3, 3)]
        >>> [tuple(p.shape) for p in fs.collapse(model).parameters()]  # after training
        [(8, 3, 3, 3), (8,), (8,)]

    It takes no options. `filtersmith.expand` raises ``ValueError`` for a convolution that is named and cannot be
    expanded.

    Source: *ACNet*, ICCV 2019, https://arxiv.org/abs/1908.03930
    """

    def __repr__(self) -> str:
        return "ACNet()"

    def prepare(self, model: nn.Module) -> nn.Module:
        """Expand the network, as `filtersmith.expand` does."""
        return expand(model, self)

    def wants(self, conv: nn.Module) -> bool:
        """Every convolution that can be expanded and is smaller than 7 (authors' code)."""
        return isinstance(conv, nn.Conv2d) and self.refuses(conv) is None and is_small(conv)

    def refuses(self, conv: nn.Module) -> str | None:
        """Why a convolution cannot be expanded, or ``None``."""
        if type(conv) is nn.Conv2d and 1 in conv.kernel_size:
            return "a kernel of {}x{} has no further lines".format(*conv.kernel_size)
        return refusal(conv)

    def block(self, conv: nn.Conv2d, bn: nn.Module) -> Branches:
        """The block that takes the place of a convolution and the batch norm behind it, which it keeps."""
        return AsymmetricBlock(conv, bn)

    @classmethod
    def why_not(cls, model: nn.Module, **options: Any) -> dict[str, str]:
        """Layer -> why it is not expanded, for `filtersmith.why_not`; with the options of the class."""
        return layers_not_expanded(model, cls(**options))
