"""KFLO as the paper writes it: Eq. (1) by loops, and a network whose layers compose by conv1d with a penalty."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def compose(filtered: Tensor, pointwise: Sequence[Tensor]) -> Tensor:
    """Eq. (1), one factor after the other: each new filter is a weighted sum of the old ones."""
    kernel = filtered
    for matrix in pointwise:
        rows = []
        for weights in matrix:
            row = torch.zeros_like(kernel[0])
            for weight, old in zip(weights, kernel, strict=True):
                row = row + weight * old
            rows.append(row)
        kernel = torch.stack(rows)
    return kernel


class NaiveLayer(nn.Module):
    """A dense convolution or linear layer with KFLO by conv1d, as Sec. 2 says. Starts as `expand` does."""

    def __init__(self, plain: nn.Module, filtered: Tensor, filtered_bias: Tensor | None, depth: int = 2) -> None:
        super().__init__()
        outputs, width = plain.weight.shape[0], len(filtered)  # type: ignore[union-attr, arg-type]
        self.plain = (plain,)
        self.w1 = nn.Parameter(filtered.detach().clone())
        self.b1 = None if filtered_bias is None else nn.Parameter(filtered_bias.detach().clone())
        shapes = [(width, width)] * (depth - 2) + [(outputs, width)]
        self.inner = nn.ParameterList(torch.eye(*shape, dtype=filtered.dtype) for shape in shapes)

    def kernel(self) -> Tensor:
        rows = self.w1.reshape(1, len(self.w1), -1)
        for matrix in self.inner:
            rows = F.conv1d(rows, matrix[:, :, None])
        return rows.view(self.plain[0].weight.shape)

    def bias(self) -> Tensor | None:
        if self.b1 is None:
            return None
        bias = self.b1[None, :, None]
        for matrix in self.inner:
            bias = F.conv1d(bias, matrix[:, :, None])
        return bias.flatten()

    def forward(self, x: Tensor) -> Tensor:
        plain = self.plain[0]
        if isinstance(plain, nn.Linear):
            return F.linear(x, self.kernel(), self.bias())
        return plain._conv_forward(x, self.kernel(), self.bias())


def naive(expanded: nn.Sequential, depth: int = 2) -> nn.Sequential:
    """A naive network with the values of one that `expand` has just made of dense and linear layers."""
    layers: list[nn.Module] = []
    for layer in expanded:
        if hasattr(layer, "parametrizations"):
            tensors = layer.parametrizations
            plain = (
                nn.Linear(layer.in_features, layer.out_features)
                if isinstance(layer, nn.Linear)
                else nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding)
            )
            bias = tensors.bias.original if "bias" in tensors else None
            layers.append(NaiveLayer(plain, tensors.weight.original0, bias, depth))
        else:
            layers.append(copy.deepcopy(layer))
    return nn.Sequential(*layers)


def penalty(network: nn.Module, decay: float, factor: float = 0.5) -> Tensor:
    """The decay of the generated kernels, as a term of the loss (Sec. 4)."""
    kernels = [layer.kernel() for layer in network.modules() if isinstance(layer, NaiveLayer)]
    return factor * decay * torch.stack([kernel.square().sum() for kernel in kernels]).sum()
