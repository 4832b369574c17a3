"""How much the filters of one layer overlap (RePr, CVPR 2019, Sec. 5, Eqs. 1-2).

Filters come filter-major, ``(n, c/g, *k)`` (see `filtersmith.filters`). With ``g`` groups only filters of one group
are compared: others read different inputs.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from filtersmith.common.options import bad_option
from filtersmith.common.precision import without_autocast
from filtersmith.pruning.orthogonal import unit_rows


def cosines(filters: Tensor, groups: int = 1) -> Tensor:
    """``Wn Wn^T - I`` inside each group, ``Wn`` having the filters as rows of length 1 (Eq. 1, without its bars).

    Differentiable, with no gradient at filters that are 0.

    Args:
        filters: shape ``(n, ...)``.
        groups: g, a divisor of n.

    Returns:
        shape ``(g, n/g, n/g)``, float32 or float64; 0 on the diagonal and wherever a filter is 0.
    """
    n = len(filters)
    if groups < 1 or n % groups:
        raise bad_option("groups", groups, f"a divisor of the {n} filters")
    rows = filters.reshape(groups, n // groups, -1)
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
    with without_autocast(rows):
        units = unit_rows(rows)
        products = units @ units.mT
    return products.masked_fill(torch.eye(n // groups, dtype=torch.bool, device=rows.device), 0)


def overlaps(filters: Tensor, groups: int = 1, *, normalise: Literal[None, "dim"] = None) -> Tensor:
    """O_f of every filter: its sum of ``|cosines|`` divided by the size J of its group (Eq. 2).

    Args:
        filters: shape ``(n, ...)``.
        groups: g, a divisor of n.
        normalise: ``"dim"`` divides by what random directions of as many dimensions have (`random_cosine`), so that
            layers of different kernel sizes can be compared.

    Returns:
        shape ``(n,)``, float32 or float64; 0 for a filter orthogonal to all others, at most ``(J-1)/J`` for
        ``normalise=None``.
    """
    if normalise not in (None, "dim"):
        raise bad_option("normalise", normalise, "None or 'dim'")
    each = cosines(filters, groups).abs().clamp(max=1)  # rounding may leave a little more than 1
    overlap = each.sum(-1).flatten() / each.shape[-1]
    return overlap if normalise is None else overlap / random_cosine(filters[0].numel())


def random_cosine(dimensions: int) -> float:
    """E|cos| of two random directions: ``Gamma(D/2) / (sqrt(pi) Gamma((D+1)/2))``, about ``sqrt(2/(pi D))``.

    The square of the cosine has the distribution Beta(1/2, (D-1)/2) (Mardia and Jupp, *Directional Statistics*,
    2000, Ch. 9).

    >>> [round(random_cosine(d), 3) for d in (1, 27, 288, 4608)]
    [1.0, 0.155, 0.047, 0.012]
    """
    return math.exp(math.lgamma(dimensions / 2) - math.lgamma((dimensions + 1) / 2)) / math.sqrt(math.pi)
