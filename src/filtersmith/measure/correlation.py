"""Pearson correlation of filters over images and positions, from sums that batches add up to (WAU, Eq. 9)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import zip_longest
from math import prod

import torch
from torch import Tensor

from filtersmith.common.options import bad_option

PIECE = 2**20
"""Numbers that are converted to float64 at a time, so that a large tensor needs no second one of its size."""


class Moments:
    """Means and products of deviations of two sets of channels; batches are joined without loss of precision."""

    def __init__(self) -> None:
        self.count: int = 0
        self._mean: Tensor | None = None
        self._products = torch.empty(0, dtype=torch.float64)

    @property
    def channels(self) -> int:
        """How many; 0 before the first batch."""
        return len(self._products)

    def add(self, rows: Tensor) -> None:
        """Observations ``(n, channels)``, float64."""
        if not len(rows):
            return
        count, mean = len(rows), rows.mean(0)
        deviations = rows - mean
        products = deviations.T @ deviations
        if self._mean is None:
            self.count, self._mean, self._products = count, mean, products
            return
        total, shift = self.count + count, mean - self._mean
        # Chan, Golub and LeVeque, Updating formulae for sample variances, 1979
        self._products += products + torch.outer(shift, shift) * (self.count * count / total)
        self._mean = self._mean + shift * (count / total)
        self.count = total

    def correlation(self) -> Tensor:
        """Pearson's r of all channels; 0 where one does not vary."""
        if self._mean is None:
            return self._products
        products, variances = self._products, self._products.diagonal().clamp(min=0)
        # What differences of equal numbers leave is rounding.
        silent = variances <= (self.count * self._mean.abs() * 1e-15) ** 2 + 1e-300
        lengths = variances.sqrt().masked_fill(silent, torch.inf)
        found = products / torch.outer(lengths, lengths)
        found = found.clamp(-1, 1)
        found.diagonal().copy_((~silent).double())
        return found


def pearson(x: Tensor | Iterable[Tensor], y: Tensor | Iterable[Tensor] | None = None) -> Tensor:
    """Correlation of every two filters over all images and positions.

    Example:
        >>> import torch, filtersmith as fs
        >>> x = torch.tensor([[1.0, 2.0, -1.0], [2.0, 4.0, 0.0], [3.0, 6.0, 1.0]])
        >>> fs.measure.pearson(x).tolist()
        [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]

    Args:
        x: activations ``(samples, channels)`` or ``(samples, channels, *positions)``, or an iterable of such tensors,
            batch by batch: then only sums are held.
        y: those of other filters on the same samples and positions; default: ``x`` itself.

    Returns:
        ``(channels of x, channels of y)``, float64, on the CPU, in [-1, 1]; symmetric, with a diagonal of 1, where
        there is no ``y``. A filter that does not vary has 0, with itself as well. On independent noise it is 0 on
        average, with a standard error of ``1 / sqrt(n - 1)``: n is samples times positions where positions are
        independent, and as few as the samples where maps are smooth. Besides x and y some ten megabytes are held.

    Raises:
        ValueError: other shapes, values that are not finite, fewer than 2 observations.

    Source: *WAU*, Sec. 6.2, Eq. 9, https://doi.org/10.1007/s41095-020-0185-5
    """
    moments, channels = Moments(), 0
    for rows, own in _rows(x, y):
        if moments.channels not in (0, rows.shape[1]):
            raise bad_option(
                "x", f"{moments.channels} and {rows.shape[1]} channels", "of the same channels in all batches"
            )
        moments.add(rows)
        channels = own
    if moments.count < 2:
        raise bad_option("x", f"{moments.count} of them", "2 samples or more")
    found = moments.correlation()
    return found if y is None else found[:channels, channels:]


def _rows(x: Tensor | Iterable[Tensor], y: Tensor | Iterable[Tensor] | None) -> Iterator[tuple[Tensor, int]]:
    """The observations of each batch, those of y beside them, and how many channels x has."""
    if y is None:
        for ours in _batches("x", x):
            check_activations("x", ours)
            for piece in pieces(ours):
                yield rows_of(ours[piece]), ours.shape[1]
        return
    for one, other in zip_longest(_batches("x", x), _batches("y", y)):
        if one is None or other is None:
            raise bad_option("y", "another number of batches", "given batch by batch as x is")
        check_activations("x", one)
        check_activations("y", other)
        if (one.shape[0], *one.shape[2:]) != (other.shape[0], *other.shape[2:]):
            where = f"on the samples and positions of x, {tuple(one.shape)}"
            raise bad_option("y", f"a shape of {tuple(other.shape)}", where)
        for piece in pieces(one, other):
            yield torch.cat((rows_of(one[piece]), rows_of(other[piece])), 1), one.shape[1]


def observations(name: str, values: Tensor) -> Tensor:
    """``(samples, channels, *positions)`` as ``(samples * positions, channels)``, float64, on the CPU."""
    check_activations(name, values)
    return rows_of(values)


def rows_of(values: Tensor) -> Tensor:
    """The same of activations that were checked."""
    return values.detach().to("cpu", torch.float64).movedim(1, -1).reshape(-1, values.shape[1])


def pieces(*values: Tensor) -> Iterator[slice]:
    """Some samples at a time, of tensors with the same samples, so that they have about `PIECE` numbers together."""
    step = max(1, PIECE // sum(prod(one.shape[1:]) for one in values))
    for start in range(0, len(values[0]), step):
        yield slice(start, min(start + step, len(values[0])))


def check_activations(name: str, values: object) -> None:
    """``ValueError`` unless they are activations, all finite."""
    if not isinstance(values, Tensor) or values.ndim < 2 or not _readable(values):
        found = f"{values.dtype} of {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
        raise bad_option(name, found, "activations (samples, channels) or (samples, channels, *positions)")
    # The two ends tell of NaN and infinity, and take little memory.
    ends = (values[piece].detach().aminmax() for piece in pieces(values))
    if not values.is_floating_point() or all(torch.stack(both).isfinite().all() for both in ends):
        return
    broken = next(c for c in range(values.shape[1]) if not values[:, c].isfinite().all())
    raise ValueError(f"{name} must be finite, and channel {broken} is not")


def _batches(name: str, given: Tensor | Iterable[Tensor]) -> Iterable[Tensor]:
    if isinstance(given, Tensor):
        return [given]
    if not isinstance(given, Iterable):
        raise bad_option(name, type(given).__name__, "a tensor of activations, or an iterable of them")
    return given


def _readable(values: Tensor) -> bool:
    odd = values.is_complex() or values.is_meta or values.layout != torch.strided
    odd = odd or (values.is_floating_point() and values.dtype.itemsize < 2)  # torch cannot reckon with them
    return not odd and 0 not in values.shape[1:]
