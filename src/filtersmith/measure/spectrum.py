"""The singular values of a layer's filter matrix: how many directions it uses, and how evenly."""

from __future__ import annotations

import torch
from torch import Tensor

from filtersmith.common.options import bad_option


def effective_rank(weight: Tensor) -> float:
    """The exponential of the entropy of the singular values: between 1 and the rank, which equal ones reach.

    Example:
        >>> import torch, filtersmith as fs
        >>> round(fs.measure.effective_rank(torch.eye(4)), 6)
        4.0
        >>> round(fs.measure.effective_rank(torch.ones(4, 4)), 6)
        1.0

    Args:
        weight: the filters, ``(n, ...)``, each of which is a row of the matrix.

    Returns:
        ``exp(-sum p_i log p_i)`` with ``p_i = s_i / sum s``. 0 where all are 0; NaN where one is not finite.

    Raises:
        ValueError: a tensor without two dimensions, or an empty one.

    Source: Roy and Vetterli, *The effective rank*, EUSIPCO 2007
    """
    return rank_of(singular_values(weight))


def condition(weight: Tensor) -> float:
    """The largest singular value over the smallest of a layer's filter matrix.

    Example:
        >>> import torch, filtersmith as fs
        >>> fs.measure.condition(torch.diag(torch.tensor([4.0, 2.0])))
        2.0

    Args:
        weight: the filters, ``(n, ...)``, each of which is a row of the matrix.

    Returns:
        At least 1; infinite where the filters, or their inputs, depend on each other linearly to the precision of
        the weights, and where all are 0; NaN where one is not finite.

    Raises:
        ValueError: a tensor without two dimensions, or an empty one.

    Source: Golub and Van Loan, *Matrix Computations*, Sec. 2.6, 2013
    """
    return condition_of(singular_values(weight), weight)


def rank_of(values: Tensor) -> float:
    """The effective rank, of the singular values."""
    total = values.sum()
    return 0.0 if total == 0 else float(torch.special.entr(values / total).sum().exp())


def condition_of(values: Tensor, weight: Tensor) -> float:
    """The condition, of the singular values of a weight."""
    if not values.isfinite().all():
        return float("nan")
    # What is stored in half precision is exact as it stands: its products are reckoned in float64.
    exact = torch.finfo(torch.float64 if weight.dtype == torch.float64 else torch.float32).eps
    smallest = values[0] * exact * max(len(weight), weight[0].numel())
    return float(values[0] / values[-1]) if values[-1] > smallest else float("inf")


def _plain(tensor: Tensor) -> bool:
    return bool(tensor.numel()) and not (tensor.is_complex() or tensor.is_meta or tensor.layout != torch.strided)


@torch.no_grad()
def singular_values(weight: Tensor) -> Tensor:
    """Those of the matrix with the filters as rows, the largest first, float64; all NaN where one is not finite."""
    if not isinstance(weight, Tensor) or weight.ndim < 2 or not _plain(weight):
        found = f"{weight.dtype} of {tuple(weight.shape)}" if isinstance(weight, Tensor) else weight
        raise bad_option("weight", found, "a tensor of filters (n, ...) with real numbers")
    matrix = weight.detach().flatten(1).to("cpu", torch.float64)
    if not matrix.isfinite().all():
        return torch.full((min(matrix.shape),), torch.nan, dtype=torch.float64)
    values: Tensor
    if weight.dtype == torch.float64:
        values = torch.linalg.svdvals(matrix)
        return values
    # Three times as fast from products in float64, where half of the digits are more than single precision has.
    products = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    values = torch.linalg.eigvalsh(products).clamp(min=0).sqrt().flip(0)
    return torch.where(values > 1e-7 * values[0], values, 0)
