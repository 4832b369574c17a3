"""The singular values of a layer's filter matrix: how many directions it uses, and how evenly.

With groups the matrix is block-diagonal, as filters of other groups read other channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from filtersmith.common.options import bad_option, whole_number
from filtersmith.measure.kernels import Kernels

LOST = 1e-7
"""Singular values below this share of the largest are rounding: squared, they are what float64 has no digits for."""


def effective_rank(weight: Tensor, *, groups: int = 1) -> float:
    """The exponential of the entropy of the singular values: between 1 and the rank, which equal ones reach.

    Example:
        >>> import torch, filtersmith as fs
        >>> round(fs.measure.effective_rank(torch.eye(4)), 6)
        4.0
        >>> round(fs.measure.effective_rank(torch.ones(4, 4)), 6)
        1.0
        >>> round(fs.measure.effective_rank(torch.ones(4, 4), groups=2), 6)  # two that read other channels
        2.0

    Args:
        weight: the filters, ``(n, ...)``, each of which is a row of the matrix.
        groups: of a grouped convolution, a divisor of n: the matrix is block-diagonal then, with so many blocks.

    Returns:
        ``exp(-sum p_i log p_i)`` with ``p_i = s_i / sum s``. 0 where all are 0; NaN where one is not finite.

    Raises:
        ValueError: a tensor without two dimensions, or an empty one; groups that do not divide its filters.

    Source: Roy and Vetterli, *The effective rank*, EUSIPCO 2007
    """
    return rank_of(singular_values(weight, groups))


def condition(weight: Tensor, *, groups: int = 1) -> float:
    """The largest singular value over the smallest of a layer's filter matrix.

    Example:
        >>> import torch, filtersmith as fs
        >>> fs.measure.condition(torch.diag(torch.tensor([4.0, 2.0])))
        2.0

    Args:
        weight: the filters, ``(n, ...)``, each of which is a row of the matrix.
        groups: of a grouped convolution, a divisor of n: the matrix is block-diagonal then, with so many blocks.

    Returns:
        At least 1; infinite above 1e7 in each block (of float64 weights above about 1e12), where filters or their
        inputs count as dependent, and where all are 0; NaN where one is not finite. Right to 1 in 1000 at 1e6.

    Raises:
        ValueError: a tensor without two dimensions, or an empty one; groups that do not divide its filters.

    Source: Golub and Van Loan, *Matrix Computations*, Sec. 2.6, 2013
    """
    return condition_of(singular_values(weight, groups))


def rank_of(values: Tensor) -> float:
    """The effective rank, of the singular values."""
    total = values.sum()
    return 0.0 if total == 0 else float(torch.special.entr(values / total).sum().exp())


def condition_of(values: Tensor) -> float:
    """The condition, of the singular values."""
    if not len(values) or not values.isfinite().all():
        return float("nan")
    return float(values[0] / values[-1]) if values[-1] > 0 else float("inf")


def singular_values(weight: Tensor, groups: int = 1) -> Tensor:
    """Those of the matrix with the filters as rows, as `singular_values_of` has them."""
    if not isinstance(weight, Tensor) or weight.ndim < 2 or not _plain(weight):
        found = f"{weight.dtype} of {tuple(weight.shape)}" if isinstance(weight, Tensor) else weight
        raise bad_option("weight", found, "a tensor of filters (n, ...) with real numbers")
    if len(weight) % whole_number("groups", groups, 1):
        raise bad_option("groups", groups, f"a divisor of the {len(weight)} filters")
    return singular_values_of(Kernels("", weight, groups))


@torch.no_grad()
def singular_values_of(kernels: Kernels, keep: Tensor | None = None) -> Tensor:
    """The singular values of a layer's block-diagonal filter matrix: those of every group together.

    Args:
        kernels: of the layer.
        keep: ``(n,)``, bool: the filters that count, such as those that are finite; default: all.

    Returns:
        ``(full_rank_of(kernels, keep),)``, float64, on the CPU, the largest first; 0 where it is less than rounding
        leaves of its block's largest; all NaN where a filter that counts is not finite.
    """
    rows = kernels.filters.detach().flatten(1).to("cpu", torch.float64)
    if keep is not None:
        rows = rows.masked_fill(~keep.cpu().unsqueeze(1), 0)  # zeros add singular values of 0 alone
    ranks = _ranks(kernels, keep)
    if not rows.isfinite().all():
        return torch.full((int(ranks.sum()),), torch.nan, dtype=torch.float64)
    blocks = rows.unflatten(0, (kernels.groups, -1))
    if kernels.filters.dtype == torch.float64:
        values = torch.linalg.svdvals(blocks)
        lost = torch.finfo(torch.float64).eps * max(blocks.shape[1:])
    else:
        # Three times as fast from products in float64, where half of the digits are more than single precision has.
        products = blocks @ blocks.mT if blocks.shape[1] <= blocks.shape[2] else blocks.mT @ blocks
        values, lost = torch.linalg.eigvalsh(products).clamp(min=0).sqrt().flip(-1), LOST
    values = torch.where(values > lost * values[:, :1], values, 0)
    counted = torch.arange(values.shape[1]) < ranks.unsqueeze(1)
    found: Tensor = values[counted].sort(descending=True).values
    return found


def full_rank_of(kernels: Kernels, keep: Tensor | None = None) -> int:
    """The most that the rank of a layer's filter matrix can be, which `singular_values_of` has so many values for.

    Args:
        kernels: of the layer.
        keep: ``(n,)``, bool: the filters that count; default: all.
    """
    return int(_ranks(kernels, keep).sum())


def _ranks(kernels: Kernels, keep: Tensor | None) -> Tensor:
    """The most that the rank of each group can be: ``(groups,)``."""
    kept = torch.ones(len(kernels.filters), dtype=torch.bool) if keep is None else keep.cpu()
    return kept.view(kernels.groups, -1).sum(1).clamp(max=kernels.filters[0].numel())


def _plain(tensor: Tensor) -> bool:
    return bool(tensor.numel()) and not (tensor.is_complex() or tensor.is_meta or tensor.layout != torch.strided)
