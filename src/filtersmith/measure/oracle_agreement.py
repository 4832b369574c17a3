"""What the greedy Oracle says of the filters of a network, and how well other criteria agree with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from filtersmith.common.options import bad_option


class OracleSummary(NamedTuple):
    """How much accuracy the filters of a layer are worth, each left out by itself. Fractions: 0.01 is a point.

    Attributes:
        median: of the drops of accuracy.
        highest: of them.
        below: the share of filters that cost less than a point.
        counts: of the drops in the bins between ``edges``.
        edges: ascending, one more than the counts, the same for all layers.
    """

    median: float
    highest: float
    below: float
    counts: tuple[int, ...]
    edges: tuple[float, ...]


class Agreement(NamedTuple):
    """Correlation of a criterion with the Oracle over all filters: of values, and of ranks (Spearman)."""

    value: float
    rank: float


def oracle_histogram(drops: Mapping[str, Tensor], *, bins: int = 20) -> dict[str, OracleSummary]:
    """The drops of accuracy that filters cause, layer by layer.

    Example:
        >>> import torch, filtersmith as fs
        >>> drops = {"conv1": torch.tensor([0.0, 0.002, 0.04])}  # from fs.rank(model, "oracle", data=batches)
        >>> found = fs.measure.oracle_histogram(drops, bins=4)["conv1"]
        >>> round(found.median, 3), round(found.below, 2), found.counts
        (0.002, 0.67, (2, 0, 0, 1))

    Args:
        drops: layer name -> ``accuracy - accuracy without the filter``, shape ``(n,)``.
        bins: of the histogram, over all layers from the lowest drop to the highest; 20 by default.

    Raises:
        ValueError: no drops, some that are not finite, fewer than 1 bin.

    Source: *RePr*, Sec. 3 and Fig. 2, https://arxiv.org/abs/1811.07275
    """
    if isinstance(bins, bool) or not isinstance(bins, int) or bins < 1:
        raise bad_option("bins", bins, "a whole number from 1 on")
    values = _values("drops", drops)
    every = torch.cat(list(values.values()))
    low, high = float(every.min()), float(every.max())
    edges = torch.linspace(low, high if high > low else low + 1e-9, bins + 1, dtype=torch.float64)
    found = {}
    for name, one in values.items():
        places = (torch.bucketize(one, edges, right=True) - 1).clamp(0, bins - 1)
        counts = torch.bincount(places, minlength=bins)
        below = float((one < 0.01).double().mean())
        middle = float(one.quantile(0.5))
        found[name] = OracleSummary(middle, float(one.max()), below, tuple(counts.tolist()), tuple(edges.tolist()))
    return found


def oracle_correlation(scores: Mapping[str, Tensor], drops: Mapping[str, Tensor]) -> Agreement:
    """How well a criterion agrees with the Oracle, over all filters of all layers together.

    Example:
        >>> import torch, filtersmith as fs
        >>> drops = {"a": torch.tensor([0.0, 0.1, 0.3])}
        >>> round(fs.measure.oracle_correlation({"a": torch.tensor([1.0, 10.0, 1000.0])}, drops).rank, 6)
        1.0

    Args:
        scores: layer name -> importance, shape ``(n,)``, as `fs.rank` gives it: the least important are the lowest.
        drops: the Oracle's, of the same layers.

    Returns:
        Two numbers in [-1, 1]; of ranks, equal values share their mean rank. 0 where one of both does not vary.

    Raises:
        ValueError: other layers, other numbers of filters, values that are not finite.

    Source: *RePr*, Sec. 5 and Fig. 3, https://arxiv.org/abs/1811.07275
    """
    ours, theirs = _values("scores", scores), _values("drops", drops)
    if ours.keys() != theirs.keys():
        raise bad_option("scores", f"those of {', '.join(ours)}", f"of the layers of drops, {', '.join(theirs)}")
    for name, one in ours.items():
        if len(one) != len(theirs[name]):
            raise bad_option("scores", f"{len(one)} of layer {name!r}", f"{len(theirs[name])}, one for each filter")
    a, b = (torch.cat([of[name] for name in theirs]) for of in (ours, theirs))
    return Agreement(_pearson(a, b), _pearson(ranks(a), ranks(b)))


def ranks(values: Tensor) -> Tensor:
    """Ranks from 1; equal values share the mean of theirs.

    >>> ranks(torch.tensor([5.0, 2.0, 5.0])).tolist()
    [2.5, 1.0, 2.5]
    """
    _, inverse, counts = torch.unique(values, return_inverse=True, return_counts=True)
    means: Tensor = (counts.cumsum(0) - (counts - 1) / 2).double()
    return means[inverse]


def _pearson(a: Tensor, b: Tensor) -> float:
    a, b = a - a.mean(), b - b.mean()
    lengths = float(a.norm() * b.norm())
    return max(-1.0, min(1.0, float(a @ b) / lengths)) if lengths > 0 else 0.0


def _values(what: str, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if not isinstance(given, Mapping) or not given:
        raise bad_option(what, given if isinstance(given, Mapping) else type(given).__name__, "layers with values")
    found = {name: torch.as_tensor(one).detach().flatten().to("cpu", torch.float64) for name, one in given.items()}
    for name, one in found.items():
        if not one.numel() or not one.isfinite().all():
            raise bad_option(f"{what} of layer {name!r}", one.tolist()[:3], "finite, one for each filter")
    return found
