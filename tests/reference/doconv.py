"""DO-Conv as its paper writes it: one value of the generated kernel after the other."""

from __future__ import annotations

import torch
from torch import Tensor


def compose(kernel: Tensor, mixing: Tensor) -> Tensor:
    """``W'[o, i, m] = sum_s (D[i, m, s] + I[m, s]) W[o, i, s]``; grouped kernels are viewed as ``(n/g, c, d_mul)``.

    Args:
        kernel: W, shape ``(n, c/g, d_mul)``.
        mixing: D without its identity, shape ``(c, M*N, d_mul)``.

    Returns:
        shape ``(n, c/g, M*N)``.
    """
    n, per_group, d_mul = kernel.shape
    channels, window, _ = mixing.shape
    values = []
    for place in range(n * per_group):  # of the pairs (o, i), in memory order: the view renumbers them
        row = kernel[divmod(place, per_group)]
        for m in range(window):
            identity = torch.zeros(d_mul, dtype=kernel.dtype)
            identity[m] = 1
            values.append(((mixing[place % channels, m] + identity) * row).sum())
    return torch.stack(values).view(n, per_group, window)
