"""Some rows and columns of a tensor, and tensors filled up with zeros to full width: fast in both directions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

from filtersmith.common.modules import memory_format


class _Picked(torch.autograd.Function):
    """Some rows and columns of a tensor. Each position is picked once: torch's own gradient adds up, and is slow."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, rows: Tensor | None, columns: Tensor | None) -> Tensor:
        ctx.shape, ctx.rows, ctx.columns = tensor.shape, rows, columns
        if rows is not None:
            tensor = tensor.index_select(0, rows)
        return tensor if columns is None else tensor.index_select(1, columns)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        if ctx.columns is None:
            place: Any = ctx.rows
        elif ctx.rows is None:
            place = slice(None), ctx.columns
        else:
            place = ctx.rows[:, None], ctx.columns
        full = gradient.new_zeros(ctx.shape)
        full[place] = gradient
        return full, None, None


def picked(tensor: Tensor, rows: Tensor | None, columns: Tensor | None = None) -> Tensor:
    """Some rows and columns (dimensions 0 and 1) of a tensor."""
    rows, columns = _near(rows, tensor), _near(columns, tensor)
    if not _is_transformed(tensor):
        picked: Tensor = _Picked.apply(tensor, rows, columns)
        return picked
    for dimension, positions in enumerate((rows, columns)):
        tensor = tensor if positions is None else tensor.index_select(dimension, positions)
    return tensor


def _is_transformed(tensor: Tensor) -> bool:
    """Whether torch.func or forward-mode differentiation is at work, which know torch's own operations alone.

    A function of autograd that told them its rules would be slower where they are not.
    """
    if torch.compiler.is_compiling():
        return False
    return torch._C._are_functorch_transforms_active() or unpack_dual(tensor).tangent is not None


def _near(positions: Tensor | None, tensor: Tensor) -> Tensor | None:
    return positions if positions is None else positions.to(tensor.device)


def rows_of(tensor: Tensor | None, positions: Tensor | None) -> Tensor | None:
    """Some rows; ``None``: all of them, or no tensor."""
    return tensor if tensor is None or positions is None else picked(tensor, positions)


def placed(x: Tensor, positions: Tensor, width: int) -> Tensor:
    """``x`` at its positions among ``width`` channels, zeros between them."""
    if _is_transformed(x):
        return x.new_zeros(x.shape[0], width, *x.shape[2:]).index_copy(1, positions.to(x.device), x)
    full = torch.empty(
        (x.shape[0], width, *x.shape[2:]), dtype=x.dtype, device=x.device, memory_format=memory_format(x)
    )
    return full.zero_().index_copy_(1, positions.to(x.device), x)
