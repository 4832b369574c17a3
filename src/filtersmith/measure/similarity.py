"""How alike two layers are: canonical correlations and centred kernel alignment, without the usual bias.

Both are estimated so that independent noise has the mean 0 however few the samples are; the usual estimates grow with
channels / samples, up to 1. Layers are read some samples at a time, as they are too large for a copy in float64.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from filtersmith.common.options import bad_option, number
from filtersmith.common.said import warn_user
from filtersmith.measure.canonical import Layer, first_correlations, mean_square
from filtersmith.measure.correlation import PIECE, check_activations, pieces

HELD = 2**21
"""Numbers of a kernel matrix that are held at a time."""


def cca(x: Tensor, y: Tensor | None = None, *, shrinkage: float = 0.0) -> Tensor:
    """Canonical correlation: of two layers one number, of one layer that of every two of its filters.

    Of two layers it is the mean squared canonical correlation of their channels, adjusted as R^2 is: 1 if each is a
    linear function of the other, 0 on average if they are independent, then with a standard error of
    ``sqrt(2 q (m - p) / (p (m - q) (m - 1) (m + 2)))`` (m samples less one, p channels and q, the more).
    Neighbouring positions are no independent samples. What chance gives is therefore measured where there are some:
    on 8 shifts of the samples of one layer against those of the other. The error is then at most 1.2 times that of
    the samples (for fewer than 10 of them the average is up to 0.1 below 0), and much less where positions differ.

    Of one layer it is, for every two filters, the first canonical correlation of their maps over the images. The
    directions are found on every other sample and read on the rest, both ways: on independent noise it is 0 on
    average, with a standard error of ``sqrt((1 + 2 / pi) / (n - 2))`` for one position (a twentieth more for fewer
    than 20 samples) and less for several.

    Example:
        >>> import torch, filtersmith as fs
        >>> x = torch.randn(500, 4, generator=torch.Generator().manual_seed(0))
        >>> round(fs.measure.cca(x, x @ torch.randn(4, 4)).item(), 6)
        1.0
        >>> maps = torch.randn(500, 3, 4, generator=torch.Generator().manual_seed(0))
        >>> maps[:, 2] = maps[:, 0] @ torch.randn(4, 4)  # the same positions, mixed
        >>> fs.measure.cca(maps)[0].abs() > 0.5
        tensor([ True, False,  True])

    Args:
        x: activations ``(samples, channels)`` or ``(samples, channels, *positions)``. Of two layers positions are
            more observations of the channels; of one layer they are what a filter's map is made of: average them to
            4x4 or fewer (``activations(..., pool=4)``) and take 50 samples or more for each.
        y: another layer, or another network's, on the same samples; positions of two dimensions are averaged to the
            fewer. Default: none.
        shrinkage: s in [0, 1): covariances are ``(1 - s) C + s mean(diag C) I``. With it fewer samples than channels
            are taken. It always warns: the value is no estimate then, as it depends on s, and of two layers chance
            is not taken off. 0 by default.

    Returns:
        With ``y`` a scalar (0 where maps are the same on all samples), without ``(channels, channels)``, symmetric,
        with a diagonal of 1 (0 for a filter that does not vary); float64, on the CPU. Invariant to invertible linear
        maps of the channels, or positions, of a condition up to about 1e6: directions with less than 1e-13 of the
        variance are left out. Held besides x and y: about 100 MB and ten matrices of channels by channels; of one
        layer 200 MB.

    Raises:
        ValueError: fewer samples than channels + 3, whatever the positions, or of one layer than twice the positions
            + 4, without shrinkage; other shapes; values that are not finite.

    Source: *WAU*, Sec. 6.2; R^2 of CCA: Kornblith et al., https://arxiv.org/abs/1905.00414
    """
    s = _shrinkage(shrinkage)
    if y is None:
        return _of_filters(x, s)
    return mean_square(*_two(x, y, s), s)


def svcca(x: Tensor, y: Tensor, *, shrinkage: float = 0.0) -> Tensor:
    """The same as `cca` for two layers, each reduced to the directions with 99% of its variance.

    Example:
        >>> import torch, filtersmith as fs
        >>> x = torch.randn(500, 4, generator=torch.Generator().manual_seed(0))
        >>> round(fs.measure.svcca(x, 3 * x).item(), 6)
        1.0

    Args:
        x: activations ``(samples, channels)`` or ``(samples, channels, *positions)``, as for `cca`.
        y: those of another layer on the same samples.
        shrinkage: as for `cca`, with the same warning.

    Returns:
        A scalar, float64, on the CPU. Invariant to rotations of the channels and to their common scale. Its standard
        error is that of `cca` with the numbers of directions for p and q; it holds as much.

    Raises:
        ValueError: as `cca`.

    Source: Raghu et al., *SVCCA*, https://arxiv.org/abs/1706.05806
    """
    s = _shrinkage(shrinkage)
    return mean_square(*_two(x, y, s), s, principal=True)


def cka(x: Tensor, y: Tensor) -> Tensor:
    """Linear centred kernel alignment of two layers, with the unbiased estimate of HSIC.

    Example:
        >>> import torch, filtersmith as fs
        >>> x = torch.randn(100, 64, generator=torch.Generator().manual_seed(0))
        >>> round(fs.measure.cka(x, x @ torch.linalg.qr(torch.randn(64, 64)).Q).item(), 6)
        1.0
        >>> abs(fs.measure.cka(x, torch.randn(100, 500)).item()) < 0.1
        True

    Args:
        x: activations ``(samples, channels)`` or ``(samples, channels, *positions)``; channels and positions are
            taken together, so that layers of any size can be compared.
        y: those of another layer on the same samples.

    Returns:
        A scalar, float64, on the CPU; 1 for equal layers. On independent noise it is 0 on average, with a standard
        error of ``sqrt(2 / (n (n - 3)))`` (n samples), so that it may be below 0; 0 where a layer does not vary.
        Invariant to rotations of the channels and to their common scale. Held besides x and y: about 100 MB, and
        where samples are more than twice the features no more than x or y takes.

    Raises:
        ValueError: fewer than 4 samples, other shapes, values that are not finite.

    Source: Song et al., JMLR 2012 (HSIC); Kornblith et al., https://arxiv.org/abs/1905.00414 (CKA)
    """
    check_activations("x", x)
    check_activations("y", y)
    if len(x) != len(y):
        raise bad_option("y", f"{len(y)} samples", f"on the {len(x)} samples of x")
    if len(x) < 4:
        raise bad_option("x", f"{len(x)} samples", "of 4 samples or more")
    a, b = _Features(x), _Features(y)
    # The smaller of both: products of features, or of samples.
    traces, of_k, of_l = (_of_features if 2 * max(a.count, b.count) < len(x) else _of_kernels)(a, b)
    of_x, of_both, of_y = (
        _hsic(traces[i], *sums) for i, sums in enumerate(((of_k, of_k), (of_k, of_l), (of_l, of_l)))
    )
    # Of what does not vary rounding is left.
    if of_x <= 0 or of_y <= 0:
        return torch.zeros((), dtype=torch.float64)
    return of_both / (of_x * of_y).sqrt()


# --- canonical correlations -----------------------------------------------------------------------------------


def _of_filters(x: Tensor, shrinkage: float) -> Tensor:
    check_activations("x", x)
    maps = _with_positions(x)
    samples, positions = maps.shape[0], maps.shape[2]
    _at_least(4 if shrinkage else 0, samples)
    few = f"{samples} samples for maps of {positions} positions, whose directions half of them show"
    few = few.replace(" 1 positions", " 1 position")
    _said(few if samples < 2 * positions + 4 else "", shrinkage)
    return first_correlations(maps, shrinkage)


def _two(x: Tensor, y: Tensor, shrinkage: float) -> tuple[Layer, Layer]:
    """Two layers on the same samples and positions, enough of them."""
    check_activations("x", x)
    check_activations("y", y)
    side = None
    if x.ndim == y.ndim == 4 and x.shape[2:] != y.shape[2:]:
        side = min(*x.shape[2:], *y.shape[2:])
    if len(x) != len(y) or (side is None and x.shape[2:] != y.shape[2:]):
        way = "; activations(..., pool=) gives maps of one size" if len(x) == len(y) else ""
        raise ValueError(
            f"y must be on the samples and positions of x, {tuple(x.shape)}, got a shape of {tuple(y.shape)}{way}"
        )
    channels = max(x.shape[1], y.shape[1])
    _at_least(2 if shrinkage else 0, len(x))
    few = f"{len(x)} samples for {channels} channels" + (", positions not counted" if x.ndim > 2 else "")
    _said(few if len(x) < channels + 3 else "", shrinkage)
    return Layer(x, side), Layer(y, side)


def _with_positions(x: Tensor) -> Tensor:
    """``(samples, channels, positions)``"""
    return x.detach().flatten(2) if x.ndim > 2 else x.detach().unsqueeze(2)


def _at_least(least: int, samples: int) -> None:
    if samples < least:
        raise bad_option("x", f"{samples} of them", f"{least} samples or more")


def _said(few: str, shrinkage: float) -> None:
    """``ValueError`` of too few samples, which with shrinkage is a warning; of shrinkage there always is one."""
    if few and not shrinkage:
        raise ValueError(f"x must have more samples, got {few}: any two layers would seem alike; or give shrinkage=")
    if shrinkage:
        text = f"with shrinkage={shrinkage:g} the value is no estimate: it depends on shrinkage"
        warn_user(f"{few}: {text}" if few else text)


def _shrinkage(value: object) -> float:
    return number("shrinkage", value, lambda s: 0 <= s < 1, "a number in [0, 1)")


# --- kernel alignment -----------------------------------------------------------------------------------------


class _Features:
    """A layer with its channels and positions as features, centred, and scaled to a largest value of 1.

    Attributes:
        maps: its activations, ``(samples, channels, positions)``.
        count: of the features.
        total: their sums over the samples, of which centring leaves rounding.
    """

    def __init__(self, values: Tensor) -> None:
        self.maps = _with_positions(values)
        self.count = self.maps.shape[1:].numel()
        self._mean = torch.zeros(self.maps.shape[1:], dtype=torch.float64)
        self.total = torch.zeros(self.count, dtype=torch.float64)
        self._scale = torch.ones((), dtype=torch.float64)
        largest, spread = torch.zeros_like(self._scale), torch.zeros_like(self._scale)
        for piece in pieces(self.maps):
            part = self.maps[piece].to("cpu", torch.float64)
            self._mean += part.sum(0) / len(values)
            largest = largest.maximum(part.abs().max())
        for piece in pieces(self.maps):
            part = self.rows(piece)
            self.total += part.sum(0)
            spread = spread.maximum(part.abs().max())
        self._scale = 1 / spread if spread > 1e-12 * largest else torch.zeros_like(spread)
        self.total *= self._scale

    def rows(self, piece: slice) -> Tensor:
        """All features of some samples."""
        # Centring changes no HSIC, and costs fewer digits.
        return (self.maps[piece].to("cpu", torch.float64) - self._mean).flatten(1) * self._scale

    def columns(self) -> Iterator[Tensor]:
        """Some features of all samples at a time."""
        channels, positions = self._mean.shape
        wide = min(positions, max(1, PIECE // len(self.maps)))
        high = max(1, PIECE // (len(self.maps) * wide))
        for c, p in itertools.product(range(0, channels, high), range(0, positions, wide)):
            here = slice(c, c + high), slice(p, p + wide)
            part = self.maps[:, here[0], here[1]].to("cpu", torch.float64)
            yield (part - self._mean[here]).flatten(1) * self._scale


def _hsic(trace: Tensor, of_k: Tensor, of_l: Tensor) -> Tensor:
    """The unbiased HSIC of linear kernels, K and L without their diagonals (Song et al., Eq. 5), times n (n - 3).

    ``tr(K L) + 1'K1 1'L1 / ((n-1)(n-2)) - 2/(n-2) 1'K L1``, of tr(K L), K1 and L1
    """
    n = len(of_k)
    return trace + of_k.sum() * of_l.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (of_k @ of_l)


Sums = tuple[tuple[Tensor, Tensor, Tensor], Tensor, Tensor]
"""``tr(K K)``, ``tr(K L)``, ``tr(L L)``; ``K1``; ``L1``."""


def _of_features(x: _Features, y: _Features) -> Sums:
    """The sums without making the kernels, where there are more samples than features."""
    of, diagonals = [], []
    for one in (x, y):
        parts = [(rows @ one.total, rows.square().sum(1)) for rows in map(one.rows, pieces(one.maps))]
        diagonals.append(torch.cat([part[1] for part in parts]))
        of.append(torch.cat([part[0] for part in parts]) - diagonals[-1])
    traces = []
    for a, b in ((0, 0), (0, 1), (1, 1)):
        one, other = (x, y)[a], (x, y)[b]
        products = torch.zeros(one.count, other.count, dtype=torch.float64)
        for piece in pieces(one.maps, other.maps):
            products.addmm_(one.rows(piece).T, other.rows(piece))
        traces.append(products.square_().sum() - diagonals[a] @ diagonals[b])
    return (traces[0], traces[1], traces[2]), of[0], of[1]


def _of_kernels(x: _Features, y: _Features) -> Sums:
    """The sums from the kernels, some of their rows at a time."""
    n = len(x.maps)
    traces = torch.zeros(3, dtype=torch.float64)
    of_k, of_l = (torch.zeros(n, dtype=torch.float64) for _ in range(2))
    step = max(1, HELD // n)
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        k, l = _kernel(x, rows), _kernel(y, rows)  # noqa: E741  (the paper's letter)
        traces += torch.stack([(a * b).sum() for a, b in ((k, k), (k, l), (l, l))])
        of_k[rows], of_l[rows] = k.sum(1), l.sum(1)
    return (traces[0], traces[1], traces[2]), of_k, of_l


def _kernel(one: _Features, rows: slice) -> Tensor:
    """Rows of a kernel matrix, with a diagonal of 0."""
    found = torch.zeros(rows.stop - rows.start, len(one.maps), dtype=torch.float64)
    for columns in one.columns():
        found.addmm_(columns[rows], columns.T)
    found.diagonal(rows.start).zero_()
    return found
