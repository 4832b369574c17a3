"""DO-Conv: depthwise over-parameterised convolution.

**Paper.** *DO-Conv: Depthwise Over-parameterized Convolutional Layer*, Cao et al., IEEE Transactions on Image
Processing 31, 2022, https://arxiv.org/abs/2006.12030

**What it does.** Trains every kernel as the product of a kernel W with ``d_mul`` values in place of the ``M*N`` of
the window and of a matrix for each input channel, and deploys the product::

    W'[o, i, m] = sum_s (D[i, m, s] + I[m, s]) * W[o, i, s]      W: (n, c/g, d_mul)    D: (c, M*N, d_mul)

D starts at zero and W as the layer's own kernel, so that the expanded network computes exactly what it did before.

**When to use it.** Where the deployed network must stay as it is and training should cost little more. Before the
optimizer is made; collapse after training::

    training = fs.compose("do-conv")  # in any loop: prepare() expands, finish() collapses
    fs.expand(model, fs.DOConv())  # alone
    optimizer = torch.optim.SGD(fs.param_groups(model, weight_decay=1e-4), lr=0.1, momentum=0.9)
    deployed = fs.collapse(model)  # after training

**When not to use it.** In networks of 1x1 convolutions for the most part (bottlenecks, separable convolutions): these
stay plain. With WAU, RePr, DSD or Prune, which refuse it. For a large gain on a large network: there the paper of
KFLO measures 0.1 to 0.4 points.

**Options.** ``d_mul`` is the size of the window, M*N, by default (paper, and KFLO's comparison); larger values are
allowed, smaller ones could not represent every kernel. All convolutions with a window are expanded; 1x1 convolutions
and linear layers have nothing to gain and stay plain.

**Where paper, authors' code and we differ.** D is kept without its identity, as in the authors' code, so that weight
decay draws ``D + I`` towards the identity. For ``d_mul`` above M*N the code repeats the identity; ours is ``[I |
0]``, so that the start is exact there, too. Grouped kernels are viewed as ``(n/g, c, d_mul)``, as in the code.

**Compatibility.** Convolutions in 1 to 3 dimensions, grouped, depthwise and transposed; any stride, padding, padding
mode and dilation; autocast, DDP (expand first), ``torch.compile``, AveragedModel. Not with WAU: the matrices D mix
what it would hold still. The channels_last format of a weight comes back on collapse.

**Measured results.** On CIFAR-10 (JPEG) with Cifar-quick, 15 epochs, 2 seeds: 80.7% against 79.3% of plain training,
the highest of the re-parametrizations; in the KFLO paper, after 150 epochs, it gains 0.6 points and KFLO more. On
C^3(32) 72.1% against 71.6%, 0.1 and 0.8 points above. On digits with 200 images, 20 seeds, the difference is +0.07
[−0.06, +0.20] points (95% interval). All tables: ``results/README.md``; what a step costs: ``benchmarks/README.md``.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import register_parametrization

from filtersmith.common.modules import memory_format
from filtersmith.common.options import whole_number
from filtersmith.filters import filter_major, transposed_groups, weight_layout
from filtersmith.reparam import Expansion, Role, fresh, layers_not_expanded
from filtersmith.reparam.expand import expand


def compose(kernel: Tensor, mixing: Tensor) -> Tensor:
    """The generated kernel (the paper's ``D^T o W``).

    Args:
        kernel: W, shape ``(n, c/g, d_mul)``.
        mixing: D without its identity, shape ``(c, M*N, d_mul)``.

    Returns:
        shape ``(n, c/g, M*N)``.
    """
    channels, window, _ = mixing.shape
    mixed = torch.einsum("ims,ois->oim", mixing, kernel.view(-1, channels, kernel.shape[2]))
    return kernel[..., :window] + mixed.reshape(*kernel.shape[:2], window)


class Depthwise(Expansion):
    """The parametrization of a weight: W is ``original0``, D is ``original1``."""

    roles: tuple[Role, ...] = ("plain", "plain")

    def __init__(self, layer: _ConvNd, d_mul: int) -> None:
        super().__init__()
        self._d_mul = d_mul
        self._channels = layer.in_channels
        self._window = tuple(layer.kernel_size)
        self._fan_in = nn.init._calculate_fan_in_and_fan_out(layer.weight)[0]
        self._groups = transposed_groups(layer)
        self._format = memory_format(layer.weight)

    def forward(self, kernel: Tensor, mixing: Tensor) -> Tensor:
        weight = weight_layout(self.composed(compose, (kernel, mixing)).unflatten(2, self._window), self._groups)
        return weight.contiguous(memory_format=self._format)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The start at a kernel: assigning ``layer.weight`` starts it anew."""
        rows = filter_major(weight, self._groups).flatten(2)
        more = fresh((*rows.shape[:2], self._d_mul - rows.shape[2]), self._fan_in, weight)
        return torch.cat([rows, more], 2).contiguous(), weight.new_zeros(self._channels, rows.shape[2], self._d_mul)


class DOConv:
    """Train each kernel with a mixing matrix for every input channel, and deploy the product.

    Hand it to `filtersmith.expand` before the optimizer is made; `filtersmith.collapse` gives the plain network back.

    Example:
        >>> import torch, filtersmith as fs
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(), torch.nn.Linear(288, 10))
        >>> model = fs.expand(model, fs.DOConv())
        >>> [tuple(p.shape) for p in model[0].parametrizations.weight.parameters()]
        [(8, 3, 9), (3, 9, 9)]
        >>> optimizer = torch.optim.SGD(fs.param_groups(model, weight_decay=1e-4), lr=0.1)  # and train as ever
        >>> sum(p.numel() for p in fs.collapse(model).parameters())
        3114

    Args:
        d_mul: values of the trained kernel for each filter and input channel, at least the window's M*N; that by
            default.

    Raises:
        ValueError: ``d_mul`` out of range; from `filtersmith.expand` one that is smaller than a layer's window.

    Source: *DO-Conv: Depthwise Over-parameterized Convolutional Layer*, https://arxiv.org/abs/2006.12030
    """

    def __init__(self, d_mul: int | None = None) -> None:
        self.d_mul: int | None = None if d_mul is None else whole_number("d_mul", d_mul, 1)

    def __repr__(self) -> str:
        return f"DOConv(d_mul={self.d_mul})"

    def prepare(self, model: nn.Module) -> nn.Module:
        """Expand the network, as `filtersmith.expand` does."""
        return expand(model, self)

    def wants(self, layer: nn.Module) -> bool:
        """Every convolution with a window of more than one position."""
        return isinstance(layer, _ConvNd) and math.prod(layer.kernel_size) > 1

    def refuses(self, layer: nn.Module) -> str | None:
        """Why a layer cannot be expanded, or ``None``."""
        if not isinstance(layer, _ConvNd):
            return "it is no convolution"
        window = math.prod(layer.kernel_size)
        if window == 1:
            return "a window of one position has nothing to mix"
        if self.d_mul is not None and self.d_mul < window:
            return f"d_mul must be at least its window of {window} positions, got {self.d_mul}"
        return None

    def register(self, layer: _ConvNd) -> None:
        """Expand one layer, which `filtersmith.expand` has checked."""
        register_parametrization(layer, "weight", Depthwise(layer, self.d_mul or math.prod(layer.kernel_size)))

    @classmethod
    def why_not(cls, model: nn.Module, **options: Any) -> dict[str, str]:
        """Layer -> why it is not expanded, for `filtersmith.why_not`; with the options of the class."""
        return layers_not_expanded(model, cls(**options))
