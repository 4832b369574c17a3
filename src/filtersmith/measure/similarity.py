"""How alike two layers are: canonical correlations and centred kernel alignment, without the usual bias.

Both are estimated so that independent noise has the mean 0 however few the samples are; the usual estimates grow with
channels / samples, up to 1.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from filtersmith.common.options import bad_option, number
from filtersmith.measure.canonical import first_correlations, whitened
from filtersmith.measure.collected import pooled
from filtersmith.measure.correlation import check_activations, observations

KEPT = 0.99
"""Share of the variance whose directions SVCCA keeps."""
BLOCK = 2048
"""Samples whose kernel matrix is held at a time."""


def cca(x: Tensor, y: Tensor | None = None, *, shrinkage: float = 0.0) -> Tensor:
    """Canonical correlation: of two layers one number, of one layer that of every two of its filters.

    Of two layers it is the mean squared canonical correlation of their channels, adjusted as R^2 is: 1 if each is a
    linear function of the other, 0 on average if they are independent, then with a standard error below
    ``sqrt(2 q / p) / (n - q)`` (n samples times positions, p and q channels, q the more).

    Of one layer it is, for every two filters, the first canonical correlation of their maps over the images. The
    directions are found on every other sample and read on the rest, both ways: on independent noise it is 0 on
    average, with a standard error of ``1 / sqrt(n)``.

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
            more samples; of one layer they are what a filter's map is made of: average them to 4x4 or fewer
            (``activations(..., pool=4)``) and take 50 samples or more for each.
        y: another layer, or another network's, on the same samples; positions of two dimensions are averaged to the
            fewer. Default: none.
        shrinkage: s in [0, 1): covariances are ``(1 - s) C + s mean(diag C) I``. With it fewer samples than channels
            are taken, with a warning: the value is no estimate then. 0 by default.

    Returns:
        With ``y`` a scalar, without ``(channels, channels)``, symmetric, with a diagonal of 1 (0 for a filter that
        does not vary); float64, on the CPU. Invariant to invertible linear maps of the channels, or positions.

    Raises:
        ValueError: as many channels as samples, or more, or maps with as many positions as half of the samples,
            without shrinkage; other shapes; values that are not finite.

    Source: *WAU*, Sec. 6.2; R^2 of CCA: Kornblith et al., https://arxiv.org/abs/1905.00414
    """
    s = _shrinkage(shrinkage)
    if y is None:
        return _of_filters(x, s)
    a, b = _two(x, y)
    return _adjusted(a, b, s)


def svcca(x: Tensor, y: Tensor, *, shrinkage: float = 0.0) -> Tensor:
    """The same as `cca` for two layers, each reduced to the directions with 99% of its variance.

    Example:
        >>> import torch, filtersmith as fs
        >>> x = torch.randn(500, 4, generator=torch.Generator().manual_seed(0))
        >>> round(fs.measure.svcca(x, 3 * x).item(), 6)
        1.0

    Args:
        x: activations ``(samples, channels)`` or ``(samples, channels, *positions)``; positions are more samples.
        y: those of another layer on the same samples.
        shrinkage: as for `cca`.

    Returns:
        A scalar, float64, on the CPU. Invariant to rotations of the channels and to their common scale.

    Raises:
        ValueError: as `cca`.

    Source: Raghu et al., *SVCCA*, https://arxiv.org/abs/1706.05806
    """
    s = _shrinkage(shrinkage)
    a, b = _two(x, y)
    _enough(a, b, s)
    return _adjusted(_principal(a), _principal(b), s)


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
        error of ``sqrt(2) / samples``, so that it may be a little below 0; 0 where a layer does not vary. Invariant
        to rotations of the channels and to their common scale.

    Raises:
        ValueError: fewer than 4 samples, other shapes, values that are not finite.

    Source: Song et al., JMLR 2012 (HSIC); Kornblith et al., https://arxiv.org/abs/1905.00414 (CKA)
    """
    a, b = (_flat(name, one) for name, one in (("x", x), ("y", y)))
    if len(a) != len(b):
        raise bad_option("y", f"{len(b)} samples", f"on the {len(a)} samples of x")
    if len(a) < 4:
        raise bad_option("x", f"{len(a)} samples", "of 4 samples or more")
    of_x, of_y = _hsic(a, a), _hsic(b, b)
    # Of what does not vary rounding is left.
    if of_x <= 0 or of_y <= 0:
        return torch.zeros((), dtype=torch.float64)
    return _hsic(a, b) / (of_x * of_y).sqrt()


# --- canonical correlations -----------------------------------------------------------------------------------


def _of_filters(x: Tensor, shrinkage: float) -> Tensor:
    check_activations("x", x)
    maps = x.detach().flatten(2) if x.ndim > 2 else x.detach().unsqueeze(2)
    samples, positions = maps.shape[0], maps.shape[2]
    if samples < 2 * positions + 4:
        _too_few(
            f"{samples} samples for maps of {positions} positions, whose directions half of them show", shrinkage
        )
    return first_correlations(maps.to("cpu", torch.float64), shrinkage)


def _two(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Observations of two layers on the same samples and positions, centred."""
    check_activations("x", x)
    check_activations("y", y)
    if x.ndim == y.ndim == 4 and x.shape[2:] != y.shape[2:]:
        side = min(*x.shape[2:], *y.shape[2:])
        x, y = pooled(x.double(), side), pooled(y.double(), side)
    if (x.shape[0], *x.shape[2:]) != (y.shape[0], *y.shape[2:]):
        raise bad_option("y", f"a shape of {tuple(y.shape)}", f"on the samples and positions of x, {tuple(x.shape)}")
    return _centred(observations("x", x)), _centred(observations("y", y))


def _centred(rows: Tensor) -> Tensor:
    """Deviations from the mean; what rounding leaves of a constant channel is 0."""
    deviations = rows - rows.mean(0)
    still = deviations.abs().amax(0) <= 1e-12 * rows.abs().amax(0)
    return deviations.masked_fill(still, 0)


def _adjusted(a: Tensor, b: Tensor, shrinkage: float) -> Tensor:
    """The mean squared canonical correlation, less what chance gives: ``1 - (1 - R^2) (n - 1) / (n - 1 - q)``."""
    _enough(a, b, shrinkage)
    count = len(a)
    wide, narrow = (a, b) if a.shape[1] >= b.shape[1] else (b, a)
    one, other = whitened(wide, shrinkage), whitened(narrow, shrinkage)
    ranks = one.shape[1], other.shape[1]
    if min(ranks) == 0:
        return torch.zeros((), dtype=torch.float64)
    p, q = min(ranks), max(ranks)
    mean = (one.T @ other).square().sum() / p
    if shrinkage:
        return mean
    return 1 - (1 - mean) * (count - 1) / (count - 1 - q)


def _principal(centred: Tensor) -> Tensor:
    """The coordinates in the fewest directions that have 99% of the variance."""
    left, values, _ = torch.linalg.svd(centred, full_matrices=False)
    shares = values.square().cumsum(0) / values.square().sum().clamp(min=1e-300)
    kept = int((shares < KEPT).sum()) + 1
    found: Tensor = left * values
    return found[:, :kept]


def _enough(a: Tensor, b: Tensor, shrinkage: float) -> None:
    channels = max(a.shape[1], b.shape[1])
    if len(a) < channels + 3:
        _too_few(f"{len(a)} samples for {channels} channels", shrinkage)


def _too_few(found: str, shrinkage: float) -> None:
    if not shrinkage:
        raise ValueError(
            f"x must have more samples, got {found}: any two layers would seem alike; or give shrinkage="
        )
    warnings.warn(f"{found}: with shrinkage the value is no estimate, and depends on it", stacklevel=4)


def _shrinkage(value: object) -> float:
    return number("shrinkage", value, lambda s: 0 <= s < 1, "a number in [0, 1)")


# --- kernel alignment -----------------------------------------------------------------------------------------


def _flat(name: str, values: Tensor) -> Tensor:
    check_activations(name, values)
    flat = values.detach().flatten(1).to("cpu", torch.float64)
    centred = flat - flat.mean(0)  # which changes no HSIC, and costs fewer digits
    size = centred.abs().max()
    return centred / size if size > 1e-12 * flat.abs().max() else torch.zeros_like(centred)


def _hsic(x: Tensor, y: Tensor) -> Tensor:
    """The unbiased HSIC of linear kernels, K and L without their diagonals (Song et al., Eq. 5), times n (n - 3).

    ``tr(K L) + 1'K1 1'L1 / ((n-1)(n-2)) - 2/(n-2) 1'K L1``
    """
    n = len(x)
    trace, of_k, of_l = (_of_features if x.shape[1] + y.shape[1] < n else _of_kernels)(x, y)
    return trace + of_k.sum() * of_l.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (of_k @ of_l)


def _of_features(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``tr(K L)``, ``K1`` and ``L1`` without making the kernels, where there are more samples than features."""
    diagonals = x.square().sum(1), y.square().sum(1)
    trace = (x.T @ y).square().sum() - diagonals[0] @ diagonals[1]
    return trace, x @ x.sum(0) - diagonals[0], y @ y.sum(0) - diagonals[1]


def _of_kernels(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same from the kernels, block by block."""
    n = len(x)
    trace = torch.zeros((), dtype=torch.float64)
    of_k, of_l = (torch.zeros(n, dtype=torch.float64) for _ in range(2))
    for start in range(0, n, BLOCK):
        rows = torch.arange(start, min(start + BLOCK, n))
        k = x[rows] @ x.T
        l = k if y is x else y[rows] @ y.T  # noqa: E741  (the paper's letter)
        for kernel in (k,) if y is x else (k, l):
            kernel[rows - start, rows] = 0
        trace += (k * l).sum()
        of_k[rows], of_l[rows] = k.sum(1), l.sum(1)
    return trace, of_k, of_l
