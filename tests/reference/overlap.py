"""Overlap of filters, one pair at a time."""

from __future__ import annotations

import math

from torch import Tensor


def cosine(a: Tensor, b: Tensor) -> float:
    """Of two filters, in Python's own numbers; 0 if one of them is 0."""
    x, y = a.flatten().tolist(), b.flatten().tolist()
    lengths = math.hypot(*x) * math.hypot(*y)
    return sum(p * q for p, q in zip(x, y, strict=True)) / lengths if lengths else 0.0


def cosine_lists(filters: Tensor, groups: int) -> list[list[list[float]]]:
    """``[group][i][j]``, 0 on the diagonal."""
    size = len(filters) // groups
    return [
        [
            [0.0 if i == j else cosine(filters[g * size + i], filters[g * size + j]) for j in range(size)]
            for i in range(size)
        ]
        for g in range(groups)
    ]


def overlap_list(filters: Tensor, groups: int) -> list[float]:
    """Eq. 2 for each filter."""
    return [sum(abs(c) for c in row) / len(row) for group in cosine_lists(filters, groups) for row in group]
