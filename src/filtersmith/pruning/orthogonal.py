"""New directions orthogonal to given ones: where a dropped filter starts again (RePr, CVPR 2019, Sec. 4)."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

TOLERANCE = 1e-6
"""A singular value below this share of the largest one is 0."""

TRIALS = 100
"""Random directions that tell how near to the kept filters a random one comes."""


def unit_rows(rows: Tensor) -> Tensor:
    """Rows scaled to length 1; those that are 0 stay 0 and have no gradient. Shape ``(..., D)``, differentiable."""
    largest = rows.detach().abs().amax(-1, keepdim=True)
    empty = largest < torch.finfo(rows.dtype).tiny
    # Only the direction counts, so that the scale may be a constant; with it no square is lost or infinite.
    scaled = rows / largest.masked_fill(empty, 1)
    length = torch.linalg.vector_norm(scaled, dim=-1, keepdim=True)
    units: Tensor = scaled / length.masked_fill(empty, 1)
    return units.masked_fill(empty, 0)


@torch.no_grad()
def restart(old: Tensor, kept: Tensor, generator: Generator) -> tuple[Tensor, dict[str, int]]:
    """New directions for dropped filters, as orthogonal as there is room for.

    As many as possible are taken from each of these, in this order; the first three kinds are orthogonal to each
    other.

    * ``"orthogonal"``: to old and kept filters (the paper's rule, which may find no room).
    * ``"kept only"``: orthogonal to the kept filters.
    * ``"least overlap"``: right singular vectors of old and kept filters together, those with the smallest singular
      values; of these only such as come no nearer to a kept filter than random directions do on average.
    * ``"random"``.

    Args:
        old: the dropped filters as they were when they were dropped, flattened, shape ``(u, D)``.
        kept: the filters that stay, as they are now, shape ``(m, D)``. Filters that are 0 or not finite are ignored.
        generator: on the CPU; the only source of randomness.

    Returns:
        Directions of length 1, shape ``(u, D)``, float64 on the CPU, and how many are of each kind.
    """
    with torch.device("cpu"):  # whatever the default device is
        return _restart(_directions(old), _directions(kept), old.shape[0], old.shape[1], generator)


def _restart(old: Tensor, kept: Tensor, count: int, size: int, generator: Generator) -> tuple[Tensor, dict[str, int]]:
    every = torch.cat([old, kept])
    orthogonal = _orthogonal_to(every, count, generator)
    count -= len(orthogonal)
    kept_only = _orthogonal_to(torch.cat([kept, orthogonal]), count, generator)
    count -= len(kept_only)
    least = _least_overlap(every, kept, torch.cat([orthogonal, kept_only]), count, generator)
    random = _random(count - len(least), size, generator)
    kinds = {"orthogonal": orthogonal, "kept only": kept_only, "least overlap": least, "random": random}
    return torch.cat(list(kinds.values())), {kind: len(rows) for kind, rows in kinds.items()}


def _directions(filters: Tensor) -> Tensor:
    """Unit rows in float64 on the CPU, without those that have no direction."""
    units = unit_rows(filters.detach().to("cpu", torch.float64))
    return units[units.isfinite().all(1) & units.any(1)]


def _random(count: int, size: int, generator: Generator) -> Tensor:
    return unit_rows(torch.randn(count, size, generator=generator, dtype=torch.float64))


def _orthogonal_to(rows: Tensor, count: int, generator: Generator) -> Tensor:
    """Up to ``count`` random rows, orthonormal and orthogonal to the given ones; fewer where there is less room.

    Gaussian vectors projected into the null space and orthonormalised are distributed as its basis is after a random
    rotation, and no basis of it has to be made: it may have thousands of vectors where a few are wanted.
    """
    size = rows.shape[1]
    if count == 0:
        return rows.new_empty(0, size)
    space = _row_space(rows)
    count = min(count, size - space.shape[1])
    drawn = torch.randn(size, count, generator=generator, dtype=torch.float64)
    for _ in range(2):  # the second round removes what the first one's rounding left
        drawn = _orthonormal(drawn - space @ (space.T @ drawn))
    return drawn.T


def _orthonormal(columns: Tensor) -> Tensor:
    """QR with a positive diagonal of R, without which the rotation would not be uniformly distributed."""
    q, r = torch.linalg.qr(columns)
    signs = torch.where(r.diagonal() < 0, -1.0, 1.0)
    return torch.mul(q, signs)


def _row_space(rows: Tensor) -> Tensor:
    """An orthonormal basis of what the rows span, as columns, shape ``(D, rank)``."""
    count, size = rows.shape
    if count == 0:
        return rows.T
    q, r = torch.linalg.qr(rows if count > size else rows.T)
    # The Frobenius norms bound the condition number: mostly they tell full rank, many times faster than an SVD.
    inverse = torch.linalg.solve_triangular(r, torch.eye(len(r), dtype=r.dtype), upper=True)
    if r.norm() * inverse.norm() < 1 / TOLERANCE:
        return torch.eye(size, dtype=rows.dtype) if count > size else q
    vectors: Tensor
    vectors, values, _ = torch.linalg.svd(rows.T, full_matrices=False)
    return vectors[:, values > TOLERANCE * values[0]]


def _least_overlap(every: Tensor, kept: Tensor, taken: Tensor, count: int, generator: Generator) -> Tensor:
    """Up to ``count`` orthonormal rows orthogonal to ``taken`` that overlap least with ``every``."""
    size = every.shape[1]
    if count == 0 or len(kept) == 0 or len(taken) == size:
        return every.new_empty(0, size)
    # A random basis: where singular values are equal (orthogonal filters), their vectors come out as random ones and
    # not as the filters themselves.
    free = _orthogonal_to(taken, size - len(taken), generator)
    seen = every @ free.T
    directions: Tensor = torch.linalg.eigh(seen.T @ seen).eigenvectors.T @ free  # the least overlap first
    nearest = (directions @ kept.T).abs().amax(1)
    usual = (_random(TRIALS, size, generator) @ kept.T).abs().amax(1).mean()
    return directions[nearest <= usual][:count]
