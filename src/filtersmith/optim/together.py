"""Rows of many tensors, kept and put back by a few operations, however many tensors there are.

A GPU copies a whole network in less time than it takes to begin an operation for each of its layers. So all of every
tensor is copied before a step, and after it one choice by element says what was held. Nothing waits for the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

import torch
from torch import Tensor

from filtersmith.filters import Slice


def fits(part: Slice) -> bool:
    """Whether rows can be kept in this way: those of a matrix without gaps, by number."""
    view, index = part
    return type(view) is Tensor and view.ndim == 2 and view.is_contiguous() and len(index) == 1


class Together:
    """A copy of rows of several tensors, each tensor once.

    Args:
        parts: matrices and the int64 indices of their rows, all on one device, as `fits` has them.
    """

    def __init__(self, parts: Sequence[Slice]) -> None:
        self._whole = min((_whole(view) for view, _ in parts), key=lambda dtype: dtype.itemsize)
        flat = self._flat([view for view, _ in parts])
        self._sizes = [len(one) for one in flat]
        self._old = torch.cat(flat)
        counts = tuple(len(view) for view, _ in parts)
        widths = tuple(size // max(count, 1) for size, count in zip(self._sizes, counts, strict=True))
        starts = [*accumulate(counts[:-1], initial=0)]
        chosen = torch.cat(torch._foreach_add([index[0] for _, index in parts], starts))
        held = torch.zeros(sum(counts), dtype=torch.bool, device=self._old.device).index_fill_(0, chosen, True)
        self._held = held.repeat_interleave(_repeats(counts, widths, self._old.device), output_size=len(self._old))

    def put_back(self, views: Sequence[Tensor | None]) -> None:
        """Write the rows back into the tensors as they are now; ``None`` where there is none any more."""
        there = [number for number, view in enumerate(views) if view is not None]
        flat = self._flat([view for view in views if view is not None])
        old, held = self._of(self._old, there), self._of(self._held, there)
        if flat:
            new = torch.where(held, old, torch.cat(flat))
            torch._foreach_copy_(flat, list(new.split([len(one) for one in flat])))

    def _flat(self, views: Sequence[Tensor]) -> list[Tensor]:
        """Their memory as whole numbers, for which no bit pattern means another one."""
        return [view.view(self._whole).flatten() for view in views]

    def _of(self, every: Tensor, some: Sequence[int]) -> Tensor:
        if len(some) == len(self._sizes):
            return every
        pieces = every.split(self._sizes)
        return torch.cat([pieces[number] for number in some] or [every[:0]])


def _whole(view: Tensor) -> torch.dtype:
    """The largest whole numbers of 4 bytes or less that a row of a matrix consists of."""
    row, offset = view.shape[1] * view.itemsize, view.storage_offset() * view.itemsize
    fitting = (one for one in (torch.int32, torch.int16) if row % one.itemsize == 0 and offset % one.itemsize == 0)
    return next(fitting, torch.uint8)


@lru_cache(maxsize=16)
def _repeats(counts: tuple[int, ...], widths: tuple[int, ...], device: torch.device) -> Tensor:
    """How often each row's mark is repeated, int32: what comes of it takes half of the memory."""
    repeats = [width for count, width in zip(counts, widths, strict=True) for _ in range(count)]
    return torch.tensor(repeats, dtype=torch.int32).to(device)
