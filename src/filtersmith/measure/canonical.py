"""Canonical correlations of maps, filter by filter, read on samples that did not choose the directions."""

from __future__ import annotations

import torch
from torch import Tensor

CUT = 1e-10
"""Directions with less than this share of the largest variance are none."""
PAIRS = 2**22
"""Numbers of the covariances of pairs that are held at a time."""


def whitened(centred: Tensor, shrinkage: float = 0.0) -> Tensor:
    """Centred observations ``(n, p)`` as orthonormal columns ``(n, rank)`` of the same span.

    With shrinkage s they are ``X ((1-s) C + s mean(diag C) I)^(-1/2)``, C = X'X.
    """
    roots = inverse_roots((centred.T @ centred).unsqueeze(0), shrinkage)[0]
    found: Tensor = centred @ roots[:, roots.abs().sum(0) > 0]
    return found


def inverse_roots(covariances: Tensor, shrinkage: float = 0.0) -> Tensor:
    """``(k, p, p)`` -> R with R'CR = I on the directions that vary, columns of zeros for the others."""
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


def first_correlations(maps: Tensor, shrinkage: float = 0.0) -> Tensor:
    """For every two filters the first canonical correlation of their maps.

    Args:
        maps: ``(samples, channels, positions)``, float64.
        shrinkage: see `whitened`.

    Returns:
        ``(channels, channels)``: the mean of both ways; 1 on the diagonal, 0 where a filter does not vary.
    """
    channels = maps.shape[1]
    halves = [half - half.mean(0) for half in (maps[::2], maps[1::2])]
    # Constant to rounding is constant.
    size = maps.abs().amax((0, 2)).clamp(min=1e-300)
    lives = torch.stack([half.abs().amax((0, 2)) > 1e-12 * size for half in halves]).all(0)
    found = torch.zeros(channels, channels, dtype=torch.float64)
    for fitted, read in (halves, reversed(halves)):
        found += _read(fitted, read, shrinkage) / 2
    found = (found + found.T) / 2  # but for rounding it is symmetric
    found = found.masked_fill(~(lives.unsqueeze(0) & lives.unsqueeze(1)), 0)
    found.diagonal().copy_(lives.double())
    return found


def _read(fitted: Tensor, read: Tensor, shrinkage: float) -> Tensor:
    """Directions of one half, correlations of the other."""
    channels, positions = fitted.shape[1:]
    own = torch.einsum("ncp,ncq->cpq", fitted, fitted)
    roots = inverse_roots(own, shrinkage)
    there = torch.einsum("ncp,ncq->cpq", read, read)
    found = torch.zeros(channels, channels, dtype=torch.float64)
    block = max(1, PAIRS // (channels * positions**2))
    for start in range(0, channels, block):
        rows = slice(start, min(start + block, channels))
        cross = torch.einsum("nip,njq->ijpq", fitted[:, rows], fitted)
        inner = roots[rows].mT.unsqueeze(1) @ cross @ roots.unsqueeze(0)
        left, _, right = torch.linalg.svd(inner)
        u = torch.einsum("ipr,ijr->ijp", roots[rows], left[..., 0])
        v = torch.einsum("jpr,ijr->ijp", roots, right[..., 0, :])
        both = torch.einsum("nip,njq->ijpq", read[:, rows], read)
        top = torch.einsum("ijp,ijpq,ijq->ij", u, both, v)
        one = torch.einsum("ijp,ipq,ijq->ij", u, there[rows], u)
        other = torch.einsum("ijp,jpq,ijq->ij", v, there, v)
        below = (one * other).clamp(min=0).sqrt()
        found[rows] = torch.where(below > 0, top / below.clamp(min=1e-300), 0).clamp(-1, 1)
    return found
