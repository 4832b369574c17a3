"""Holding parts of parameters still across an optimizer step.

What is to be held is copied before the step and written back after it, bit for bit. The optimizer itself works
as if nothing were held: momentum, second moments and counters see every gradient. Zeroing gradients would not
do: momentum and weight decay would move the weights all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from filtersmith.common.distributed import local
from filtersmith.filters import Slice
from filtersmith.optim.steps import HELD, Steps
from filtersmith.optim.together import Together, fits

TOGETHER = {"cuda"}
"""Types of devices on which to begin an operation costs more than to copy a layer."""


class Spot:
    """Some of a tensor that may be another one after a step: optimizers may rebind ``p.data`` or their own state.

    Args:
        tensor: gives the tensor as it is now; ``KeyError`` where there is none any more.
        part: gives a view of such a tensor and the index of what is meant.
    """

    __slots__ = ("_found", "_memory", "_part", "_tensor", "part")

    def __init__(self, tensor: Callable[[], Tensor], part: Callable[[Tensor], Slice]) -> None:
        self._tensor, self._part = tensor, part
        self._found: Tensor | None = None
        self._memory = 0
        self.part: Slice
        """As it was found last."""

    def find(self) -> Slice:
        """Where it stands now: looked for anew where the tensor, or its memory, is another one than last time."""
        tensor = self._tensor()
        memory = local(tensor).data_ptr()
        if tensor is not self._found or memory != self._memory:
            self.part = self._part(tensor)
            self._found, self._memory = tensor, memory
        return self.part


class Rows:
    """Units of such a tensor, others in each step: their view is made anew only where the tensor is another one.

    Args:
        tensor: as of `Spot`.
        part: gives the view and the index of some units: ``part(units, tensor=tensor)``.

    Attributes:
        units: which are meant now: int64 indices.
    """

    __slots__ = ("_found", "_memory", "_part", "_tensor", "_view", "units")

    def __init__(self, tensor: Callable[[], Tensor], part: Callable[..., Slice]) -> None:
        self._tensor, self._part = tensor, part
        self._found: Tensor | None = None
        self._view: Tensor | None = None
        self._memory = 0
        self.units: Tensor = torch.empty(0, dtype=torch.int64)

    def find(self) -> Slice:
        """Where they stand now."""
        tensor = self._tensor()
        memory = local(tensor).data_ptr()
        if self._view is not None and tensor is self._found and memory == self._memory:
            return self._view, (self.units,)
        view, index = self._part(self.units, tensor=tensor)
        self._found, self._memory = tensor, memory
        by_number = len(index) == 1 and index[0] is self.units  # of sharded ones the index is that of a shard
        self._view = _wide(view) if by_number else None
        return view, index


class _Kept(NamedTuple):
    spots: list[Spot | Rows]
    put_back: Callable[[list[Slice | None]], None]


def indices(masks: Sequence[Tensor], devices: Sequence[torch.device], *, false: bool = False) -> list[Tensor]:
    """Where masks are true, or false, each on its device; one transfer where all share one. The masks are on the CPU.

    By a few operations, however many masks there are.
    """
    if not masks:
        return []
    every = torch.cat(list(masks))
    every = ~every if false else every
    sizes = torch.tensor([len(mask) for mask in masks], device="cpu")
    ends = sizes.cumsum(0)
    counted = torch.cat([every.new_zeros(1, dtype=torch.int64), every.cumsum(0)])
    counts = counted[ends] - counted[ends - sizes]
    found = every.nonzero().flatten() - (ends - sizes).repeat_interleave(counts)
    if len(set(devices)) == 1:
        return list(found.to(devices[0], non_blocking=True).split(counts.tolist()))
    pieces = found.split(counts.tolist())
    return [one.to(device, non_blocking=True) for one, device in zip(pieces, devices, strict=True)]


def keep(view: Tensor, index: tuple[Tensor, ...]) -> Tensor:
    """A copy of ``view[index]``, for `put_back`."""
    # index_select copies runs of memory where general indexing moves single elements: 3 to 5 times faster.
    return _wide(view).index_select(0, index[0]) if len(index) == 1 else view[index]


def put_back(view: Tensor, index: tuple[Tensor, ...], kept: Tensor) -> None:
    """Write what `keep` returned back to where it was."""
    if len(index) == 1:
        _wide(view).index_copy_(0, index[0], kept)
    else:
        view[index] = kept


def _wide(view: Tensor) -> Tensor:
    """The same memory as the largest elements that fit: index_copy_ takes its time by the element, not the byte."""
    if view.ndim == 2 and view.is_contiguous() and view.device.type in ("cpu", "cuda"):
        row, offset = view.shape[1] * view.itemsize, view.storage_offset() * view.itemsize
        for wide in (torch.complex128, torch.float64):
            if wide.itemsize > view.itemsize and row % wide.itemsize == 0 and offset % wide.itemsize == 0:
                return view.view(wide)
    return view


class Hold:
    """Holds what ``choose(optimizer)`` returns across each step, asked anew before it.

    Args:
        name: of the method, for warnings.
        choose: yields spots of the parameters, and of the state, of the optimizer or wrapper that it is given.
        none: called with it where a step turns out to be none.
        over: called with it at the end of a step, when all is written back.
    """

    def __init__(
        self,
        name: str,
        choose: Callable[[Any], Iterable[Spot | Rows]],
        none: Callable[[Any], None] | None = None,
        over: Callable[[Any], None] | None = None,
    ) -> None:
        self._choose, self._none, self._over = choose, none, over
        self._kept: dict[int, list[_Kept]] = {}  # by the id of what steps
        self.steps: Steps = Steps(
            name, HELD, before=self._before, after=self._after, none=self._no_step, has_state=True
        )

    def attach(self, optimizer: Any) -> None:
        """Hold across the steps of ``optimizer``, as well as of those attached before."""
        self.steps.attach(optimizer)

    def detach(self) -> None:
        """Hold nothing any more. Harmless where nothing is attached."""
        self.steps.detach()
        self._kept.clear()

    def _before(self, level: Any) -> None:
        self._kept[id(level)] = [*_keep_all(self._choose(level))]

    def _after(self, level: Any) -> None:
        for kept in self._kept.pop(id(level), ()):
            kept.put_back([*map(_found, kept.spots)])
        if self._over is not None:
            self._over(level)

    def _no_step(self, level: Any) -> None:
        self._kept.pop(id(level), None)
        if self._none is not None:
            self._none(level)


def _keep_all(spots: Iterable[Spot | Rows]) -> Iterator[_Kept]:
    """Keep what spots say: rows on one GPU together, all else by itself."""
    together: dict[torch.device, list[tuple[Rows, Slice]]] = {}
    for spot in spots:
        part = spot.find()
        if isinstance(spot, Rows) and part[0].device.type in TOGETHER and fits(part):
            together.setdefault(part[0].device, []).append((spot, part))
        else:
            yield _Kept([spot], partial(_put_back, keep(*part)))
    for several in together.values():
        yield _Kept([spot for spot, _ in several], partial(_put_back_all, Together([part for _, part in several])))


def _found(spot: Spot | Rows) -> Slice | None:
    try:
        return spot.find()
    except KeyError:  # the step has forgotten it
        return None


def _put_back(values: Tensor, parts: list[Slice | None]) -> None:
    for part in filter(None, parts):
        put_back(*part, values)


def _put_back_all(values: Together, parts: list[Slice | None]) -> None:
    values.put_back([None if part is None else part[0] for part in parts])
