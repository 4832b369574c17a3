"""Correlations and alignment from their definitions, in numpy and in Python's loops."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from scipy.linalg import subspace_angles

Array = Any


def correlation(x: Array, y: Array) -> Array:
    """Pearson's r of every channel of ``(samples, channels, positions)`` with every other, by numpy."""
    a, b = (np.moveaxis(one, 1, -1).reshape(-1, one.shape[1]).T for one in (x, y))
    return np.corrcoef(a, b)[: len(a), len(a) :]


def adjusted(x: Array, y: Array) -> float:
    """The adjusted mean squared canonical correlation of ``(n, p)`` and ``(n, q)``, from the angles of subspaces."""
    a, b = x - x.mean(0), y - y.mean(0)
    squares = np.cos(subspace_angles(a, b)) ** 2
    n, q = len(a), max(a.shape[1], b.shape[1])
    return float(1 - (1 - squares.mean()) * (n - 1) / (n - 1 - q))


def shifted(x: Array, y: Array, shifts: int = 8) -> float:
    """The same of ``(n, p, positions)`` and ``(n, q, positions)``, with chance measured on shifted samples of y."""

    def mean_square(a: Array, b: Array) -> float:
        rows = [np.moveaxis(one, 1, -1).reshape(-1, one.shape[1]) for one in (a, b)]
        return float((np.cos(subspace_angles(*(one - one.mean(0) for one in rows))) ** 2).mean())

    n = len(x)
    forward = [k * n // (shifts + 1) for k in range(1, shifts // 2 + 1)]
    chance = np.mean([mean_square(x, np.roll(y, shift, 0)) for k in forward for shift in (k, -k)])
    return float(1 - (1 - mean_square(x, y)) / (1 - chance))


def held_out(x: Array, y: Array) -> float:
    """The first canonical correlation of two maps, directions of every other sample read on the rest, both ways."""
    found = []
    for fit, read in ((0, 1), (1, 0)):
        a, b = (one[fit::2] - one[fit::2].mean(0) for one in (x, y))
        (qa, ra), (qb, rb) = np.linalg.qr(a), np.linalg.qr(b)
        left, _, right = np.linalg.svd(qa.T @ qb)
        u, v = np.linalg.solve(ra, left[:, 0]), np.linalg.solve(rb, right[0])
        found.append(np.corrcoef(x[read::2] @ u, y[read::2] @ v)[0, 1])
    return float(np.mean(found))


def hsic_by_tuples(x: Array, y: Array) -> float:
    """The unbiased HSIC of linear kernels: the mean over all quadruples of different samples (Song et al., Eq. 4)."""
    k, l = x @ x.T, y @ y.T  # noqa: E741
    total, count = 0.0, 0
    for i, j, q, r in itertools.permutations(range(len(x)), 4):
        total += k[i, j] * (l[i, j] + l[q, r] - 2 * l[i, q])
        count += 1
    return total / count
