"""How much filters overlap, by layer and over a network (RePr, CVPR 2019, Sec. 5 and Fig. 8)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, overload

import torch
from torch import Tensor, nn

from filtersmith.common.options import bad_option, whole_number
from filtersmith.measure.kernels import kernels_of
from filtersmith.measure.overlap import overlaps


@overload
def orthogonality(
    model: Tensor, layers: None = None, *, groups: int = 1, normalise: Literal[None, "dim"] = None
) -> Tensor: ...
@overload
def orthogonality(
    model: nn.Module,
    layers: Iterable[str] | None = None,
    *,
    groups: int = 1,
    normalise: Literal[None, "dim"] = None,
) -> dict[str, Tensor]: ...
@torch.no_grad()
def orthogonality(
    model: nn.Module | Tensor,
    layers: Iterable[str] | None = None,
    *,
    groups: int = 1,
    normalise: Literal[None, "dim"] = None,
) -> dict[str, Tensor] | Tensor:
    """O_f of every filter: the mean ``|cosine|`` to the filters of its layer.

    Example:
        >>> import torch, filtersmith as fs
        >>> fs.measure.orthogonality(torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])).mul(3).tolist()
        [1.0, 0.0, 1.0]
        >>> {name: of.shape for name, of in fs.measure.orthogonality(torch.nn.Conv2d(3, 8, 3)).items()}
        {'': torch.Size([8])}

    Args:
        model: a network, or the filters of a layer, ``(n, ...)``.
        layers: of the network; by default all its convolutions. A depthwise one has 0: its filters read no channel
            in common.
        groups: of filters alone: only those of one group are compared.
        normalise: ``"dim"`` divides by what random directions of so many dimensions have, so that layers can be
            compared.

    Returns:
        Layer name -> shape ``(n,)``, float32 or float64, on the CPU; for filters this tensor alone. It is minus what
        ``fs.rank(model, "ortho")`` gives; 0 is orthogonal to all others. NaN for a filter with NaN, which the others
        do not notice.

    Raises:
        ValueError: an option out of range, an unknown layer, no convolution.

    Source: *RePr*, Sec. 5, Eq. 2, https://arxiv.org/abs/1811.07275
    """
    if isinstance(model, Tensor):
        if model.ndim < 2 or not model.numel() or model.is_complex() or model.is_meta:
            raise bad_option("model", f"{model.dtype} of {tuple(model.shape)}", "filters (n, ...) with real numbers")
        if layers is not None:
            raise bad_option("layers", layers, "left out with filters alone")
        return _of(model, whole_number("groups", groups, 1), normalise)
    if groups != 1:
        raise bad_option("groups", groups, "left out with a network, whose layers have theirs")
    return {one.name: _of(one.filters, one.groups, normalise) for one in kernels_of(model, layers)}


def ortho_sum(model: nn.Module, layers: Iterable[str] | None = None) -> float:
    """The sum of O_f over all filters of a network, which RePr draws over the training.

    Example:
        >>> import torch, filtersmith as fs
        >>> round(fs.measure.ortho_sum(torch.nn.Sequential(torch.nn.Conv2d(1, 1, 3))), 3)
        0.0

    Args:
        model: the network.
        layers: by default all convolutions.

    Returns:
        At least 0, and 0 where all filters are orthogonal; filters with NaN count 0.

    Raises:
        ValueError: an unknown layer, no convolution.

    Source: *RePr*, Fig. 8, https://arxiv.org/abs/1811.07275
    """
    return sum(float(of.double().nansum()) for of in orthogonality(model, layers).values())


def _of(filters: Tensor, groups: int, normalise: Literal[None, "dim"]) -> Tensor:
    bad = ~filters.flatten(1).isfinite().all(1)
    clean = filters.masked_fill(bad.view(-1, *[1] * (filters.ndim - 1)), 0)
    return overlaps(clean, groups, normalise=normalise).masked_fill(bad, torch.nan).cpu()
