"""Canonical correlations: of two layers, and of every two filters on samples that did not choose the directions."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from filtersmith.measure.collected import pooled
from filtersmith.measure.correlation import pieces, rows_of

CUT = 1e-13
"""Directions with less than this share of the largest variance are none: products in float64 tell no more of them."""
PAIRS = 2**21
"""Numbers of the covariances of pairs, or of shifted layers, that are held at a time."""
KEPT = 0.99
"""Share of the variance whose directions SVCCA keeps."""
SHIFTS = 8
"""Shifts that chance is measured on, where samples have positions."""


def inverse_roots(covariances: Tensor, shrinkage: float = 0.0) -> Tensor:
    """``(k, p, p)`` -> R with R'CR = I on the directions that vary, columns of zeros for the others.

    With shrinkage s it is R'((1-s) C + s mean(diag C) I)R = I.
    """
    diagonals = covariances.diagonal(dim1=-2, dim2=-1)
    if shrinkage:
        ridge = shrinkage * diagonals.mean(-1)
        covariances = (1 - shrinkage) * covariances + torch.diag_embed(ridge.unsqueeze(-1).expand_as(diagonals))
    # Channels of very different sizes: to one size first, so that the cut is the same for all.
    sizes = covariances.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()
    scale = torch.where(sizes > 0, 1 / sizes, 0)
    values, vectors = torch.linalg.eigh(covariances * scale.unsqueeze(-1) * scale.unsqueeze(-2))
    varies = values > CUT * values.amax(-1, keepdim=True).clamp(min=1e-300)
    roots = torch.where(varies, values.clamp(min=1e-300).rsqrt(), 0)
    found: Tensor = scale.unsqueeze(-1) * vectors * roots.unsqueeze(-2)
    return found


# --- of two layers --------------------------------------------------------------------------------------------


class Layer:
    """A layer, read some samples at a time as deviations from the mean of each channel, in float64.

    Attributes:
        values: its activations, as they came.
        products: X'X, X having a row for each sample and position.
        still: channels that do not vary by more than rounding.
        positions: of a sample.
    """

    def __init__(self, values: Tensor, side: int | None) -> None:
        self.values: Tensor = values.detach()
        self._side = side
        channels = values.shape[1]
        self._mean = torch.zeros(channels, dtype=torch.float64)
        self.products: Tensor = torch.zeros(channels, channels, dtype=torch.float64)
        largest, spread, count = torch.zeros_like(self._mean), torch.zeros_like(self._mean), 0
        means = torch.zeros_like(self._mean)
        for piece in pieces(values):
            rows = self.rows(piece)
            means += rows.sum(0)
            largest = largest.maximum(rows.abs().amax(0))
            count += len(rows)
        self._mean = means / count
        self.positions: int = count // len(values)
        for piece in pieces(values):
            rows = self.rows(piece)
            spread = spread.maximum(rows.abs().amax(0))
            self.products.addmm_(rows.T, rows)
        self.still: Tensor = spread <= 1e-12 * largest

    def rows(self, piece: slice, shift: int = 0) -> Tensor:
        """Those of some samples, or of as many that come ``shift`` later; behind the last the first comes again."""
        samples = (torch.arange(piece.start, piece.stop) + shift) % len(self.values)
        chosen = self.values[samples.to(self.values.device)] if shift else self.values[piece]
        chosen = chosen.to("cpu", torch.float64)
        return rows_of(chosen if self._side is None else pooled(chosen, self._side)) - self._mean

    def roots(self, shrinkage: float, principal: bool) -> Tensor:
        """R with R'X'XR = I on the directions that vary, or on those of them that have 99% of the variance."""
        products = self.products.masked_fill(self.still.unsqueeze(0) | self.still.unsqueeze(1), 0)
        basis = _principal(products) if principal else torch.eye(len(products), dtype=torch.float64)
        roots = basis @ inverse_roots((basis.T @ products @ basis).unsqueeze(0), shrinkage)[0]
        roots = roots.masked_fill(self.still.unsqueeze(1), 0)
        return roots[:, roots.abs().sum(0) > 0]


def _principal(products: Tensor) -> Tensor:
    """The fewest directions that have 99% of the variance: ``(channels, directions)``."""
    values, vectors = torch.linalg.eigh(products)
    values, vectors = values.clamp(min=0).flip(0), vectors.flip(1)
    shares = values.cumsum(0) / values.sum().clamp(min=1e-300)
    found: Tensor = vectors[:, : int((shares < KEPT).sum()) + 1]
    return found


def mean_square(one: Layer, other: Layer, shrinkage: float = 0.0, *, principal: bool = False) -> Tensor:
    """The mean squared canonical correlation R^2 of two layers, less what chance gives.

    It is ``1 - (1 - R^2) / (1 - chance)``. Where samples have one position, chance is known: ``q / (n - 1)`` with q
    channels of the wider one. Where they have several, which may be alike to any degree, it is the mean R^2 of
    samples that do not belong together: one layer's are shifted against the other's.

    Args:
        one, other: on the same samples and positions.
        shrinkage: see `inverse_roots`; with it chance is not taken off.
        principal: whether each is reduced to the directions with 99% of its variance.
    """
    if one.values.numel() < other.values.numel():  # the smaller one is read once for each shift
        one, other = other, one
    left, right = (layer.roots(shrinkage, principal) for layer in (one, other))
    ranks = left.shape[1], right.shape[1]
    if min(ranks) == 0:
        return torch.zeros((), dtype=torch.float64)

    def share(products: Tensor) -> Tensor:
        return ((left.T @ products @ right).square().sum() / min(ranks)).clamp(max=1)

    together, samples = share(_products(one, other, [0])[0]), len(one.values)
    if shrinkage:
        return together
    if one.positions == 1:
        chance = torch.tensor(max(ranks) / (samples - 1), dtype=torch.float64)
    else:
        shifts = _shifts(samples)
        most = max(1, PAIRS // (len(left) * len(right)))
        parts = [shifts[start : start + most] for start in range(0, len(shifts), most)]
        chance = torch.stack([share(each) for part in parts for each in _products(one, other, part)]).mean()
    # Maps that are the same on all images tell nothing of them.
    return 1 - (1 - together) / (1 - chance) if chance < 1 - 1e-12 else torch.zeros((), dtype=torch.float64)


def _products(x: Layer, y: Layer, shifts: list[int]) -> list[Tensor]:
    """X'Y, with the samples of y shifted against those of x, one matrix for each shift."""
    found = [torch.zeros(len(x.products), len(y.products), dtype=torch.float64) for _ in shifts]
    for piece in pieces(x.values, y.values):
        rows = x.rows(piece).T
        for shift, products in zip(shifts, found, strict=True):
            products.addmm_(rows, y.rows(piece, shift))
    return found


def _shifts(samples: int) -> list[int]:
    """Cyclic shifts of samples, spread over all; as many forward as backward, so that x and y may change places."""
    half = [max(k, k * samples // (SHIFTS + 1)) for k in range(1, SHIFTS // 2 + 1)]
    return sorted({shift for k in half for shift in (k, samples - k) if 0 < shift < samples})


# --- of every two filters -------------------------------------------------------------------------------------


def first_correlations(maps: Tensor, shrinkage: float = 0.0) -> Tensor:
    """For every two filters the first canonical correlation of their maps.

    Args:
        maps: ``(samples, channels, positions)``, of 4 samples or more; read some samples at a time.
        shrinkage: see `inverse_roots`.

    Returns:
        ``(channels, channels)``, float64: the mean of both ways; 1 on the diagonal, 0 where a filter does not vary.
    """
    channels = maps.shape[1]
    halves = _Half(maps[::2]), _Half(maps[1::2])
    lives = halves[0].lives & halves[1].lives
    found = torch.zeros(channels, channels, dtype=torch.float64)
    for fitted, read in (halves, halves[::-1]):
        found += _read(fitted, read, shrinkage) / 2
    found = (found + found.T) / 2  # but for rounding it is symmetric
    found = found.masked_fill(~(lives.unsqueeze(0) & lives.unsqueeze(1)), 0)
    found.diagonal().copy_(lives.double())
    return found


class _Half:
    """Half of the samples of maps.

    Attributes:
        own: covariances of the positions of each filter, ``(channels, positions, positions)``, times the samples.
        lives: which filters vary by more than rounding.
    """

    def __init__(self, maps: Tensor) -> None:
        self._maps = maps
        channels, positions = maps.shape[1:]
        self._mean = torch.zeros(channels, positions, dtype=torch.float64)
        largest, spread = (torch.zeros(channels, dtype=torch.float64) for _ in range(2))
        for piece in pieces(maps):
            values = maps[piece].to("cpu", torch.float64)
            self._mean += values.sum(0)
            largest = largest.maximum(values.abs().amax((0, 2)))
        self._mean /= len(maps)
        self.own = torch.zeros(channels, positions, positions, dtype=torch.float64)
        for values in self._deviations():
            spread = spread.maximum(values.abs().amax((0, 2)))
            each = values.transpose(0, 1)
            self.own.baddbmm_(each.mT, each)
        self.lives = spread > 1e-12 * largest

    def _deviations(self) -> Iterator[Tensor]:
        """Deviations from the mean of some samples, ``(samples, channels, positions)``, float64."""
        for piece in pieces(self._maps):
            yield self._maps[piece].to("cpu", torch.float64) - self._mean

    def across(self, rows: slice) -> Tensor:
        """Covariances of some filters with all: ``(rows, channels, positions, positions)``, times the samples."""
        channels, positions = self._mean.shape
        some = len(self._mean[rows])
        found = torch.zeros(some * positions, channels * positions, dtype=torch.float64)
        for values in self._deviations():
            found.addmm_(values[:, rows].flatten(1).T, values.flatten(1))
        return found.view(some, positions, channels, positions).transpose(1, 2)


def _read(fitted: _Half, read: _Half, shrinkage: float) -> Tensor:
    """Directions of one half, correlations of the other."""
    channels, positions = fitted.own.shape[:2]
    roots = inverse_roots(fitted.own, shrinkage)
    found = torch.zeros(channels, channels, dtype=torch.float64)
    block = max(1, PAIRS // (channels * positions**2))
    for start in range(0, channels, block):
        rows = slice(start, min(start + block, channels))
        inner = roots[rows].mT.unsqueeze(1) @ fitted.across(rows) @ roots.unsqueeze(0)
        left, _, right = torch.linalg.svd(inner)
        u = torch.einsum("ipr,ijr->ijp", roots[rows], left[..., 0])
        v = torch.einsum("jpr,ijr->ijp", roots, right[..., 0, :])
        top = torch.einsum("ijp,ijpq,ijq->ij", u, read.across(rows), v)
        one = torch.einsum("ijp,ipq,ijq->ij", u, read.own[rows], u)
        other = torch.einsum("ijp,jpq,ijq->ij", v, read.own, v)
        below = (one * other).clamp(min=0).sqrt()
        found[rows] = torch.where(below > 0, top / below.clamp(min=1e-300), 0).clamp(-1, 1)
    return found
