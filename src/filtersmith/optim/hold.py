"""Holding parts of parameters still across an optimizer step.

What is to be held is copied before the step and written back after it, bit for bit. The optimizer itself works
as if nothing were held: momentum, second moments and counters see every gradient. Zeroing gradients would not
do: momentum and weight decay would move the weights all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from filtersmith.filters import Slice
from filtersmith.optim.wrappers import innermost, step_runs, update_is_skipped


class Spot(NamedTuple):
    """Something to be held: the tensor that has it, asked for anew since a step may make another one, and where."""

    tensor: Callable[[], Tensor]
    part: Callable[[Tensor], Slice]


Kept = tuple[Tensor, tuple[Tensor, ...], Tensor]
"""A view, an index into it, and a copy of what stood there."""


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
    """Step hooks that hold what ``choose(optimizer)`` returns, asked anew before every step.

    ``choose`` yields slices (see `filtersmith.filters.locate`) of the parameters of that optimizer.
    """

    def __init__(self, choose: Callable[[Optimizer], Iterable[Slice]]) -> None:
        self._choose = choose
        self._kept: dict[Optimizer, list[list[Kept]]] = {}  # one list for each step that is under way
        self._hooks: dict[Optimizer, tuple[RemovableHandle, RemovableHandle]] = {}

    @property
    def optimizers(self) -> tuple[Optimizer, ...]:
        """Those that are attached to."""
        return tuple(self._hooks)

    def attached_to(self, optimizer: Any) -> bool:
        return innermost(optimizer) in self._hooks

    def attach(self, optimizer: Any) -> None:
        """Hold across the steps of ``optimizer``, as well as of those attached before."""
        optimizer = innermost(optimizer)
        if optimizer in self._hooks:
            raise ValueError(f"already attached to this {type(optimizer).__name__}: call detach() first")
        self._hooks[optimizer] = (
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
        )

    def detach(self) -> None:
        """Remove all hooks. Harmless where nothing is attached."""
        for hooks in self._hooks.values():
            for hook in hooks:
                hook.remove()
        self._hooks.clear()
        self._kept.clear()

    @torch.no_grad()
    def _before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if optimizer in self._kept and step_runs(optimizer):
            self._kept[optimizer].append([])  # the outer step holds, also against what it does after this one
        elif update_is_skipped(optimizer):
            self._kept[optimizer] = [[]]
        else:
            chosen = self._choose(optimizer)
            self._kept[optimizer] = [[(view, index, keep(view, index)) for view, index in chosen]]

    @torch.no_grad()
    def _after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        under_way = self._kept.get(optimizer)
        if not under_way:
            return  # attached in the middle of a step
        for view, index, kept in under_way.pop():
            put_back(view, index, kept)
        if not under_way:
            del self._kept[optimizer]
