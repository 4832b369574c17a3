"""Putting back what containers hold: lists, sets, dictionaries and queues, and those inside of them."""

from __future__ import annotations

import random
import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from functools import partial
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

_PLAIN = {bool, int, float, str, type(None), Tensor, nn.Parameter, FunctionType}
_CONTAINERS = (OrderedDict, dict, list, set, deque, tuple)


def contents(values: Iterable[Any]) -> Callable[[], None]:
    """A function that gives every container among the values, and inside of these, what it holds now.

    Tuples are looked into. So are generators of random numbers: they go on from here again. Containers that hold what
    they held are left alone.
    """
    before: list[tuple[Any, list[Any]]] = []
    generators: list[Callable[[], object]] = []
    seen: set[int] = set()
    left = list(values)
    while left:
        value = left.pop()
        if type(value) in _PLAIN or isinstance(value, nn.Module):
            continue
        if isinstance(value, _CONTAINERS):
            if id(value) not in seen:
                seen.add(id(value))
                held = _held(value)
                left += held
                before.append((value, held))
        elif (put_back := _generator(value)) is not None:
            generators.append(put_back)

    def restore() -> None:
        for container, held in before:
            if not _same(held, _held(container)):
                _fill(container, held)
        for put_back in generators:
            put_back()

    return restore


def same_attributes(cls: type) -> Callable[[], None]:
    """A function that gives a class its attributes back (a count of its objects), and what containers there hold."""
    before = {name: value for name, value in vars(cls).items() if not name.startswith("__")}
    inside = contents(before.values())

    def restore() -> None:
        for name, value in dict(vars(cls)).items():
            if name not in before and not name.startswith("__"):
                delattr(cls, name)
            elif value is not before.get(name, value):
                setattr(cls, name, before[name])
        for name, value in before.items():
            if name not in vars(cls):
                setattr(cls, name, value)
        inside()

    return restore


def _held(container: Any) -> list[Any]:
    """What a container holds; of a dictionary the keys, then the values."""
    if isinstance(container, dict):
        return [*_kind(container).keys(container), *_kind(container).values(container)] if container else []
    return list(container)


def _kind(container: Any) -> Any:
    return next(kind for kind in _CONTAINERS if isinstance(container, kind))


def _fill(container: Any, held: list[Any]) -> None:
    """Let a container hold something else; by no code that its own class may have for that."""
    if isinstance(container, dict):
        half, kind = len(held) // 2, _kind(container)
        kind.clear(container)
        kind.update(container, zip(held[:half], held[half:], strict=True))
    elif not isinstance(container, tuple):
        kind = _kind(container)
        kind.clear(container)
        (set.update if kind is set else kind.extend)(container, held)


def _same(one: list[Any], other: list[Any]) -> bool:
    """The very same objects."""
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))


def _generator(value: Any) -> Callable[[], object] | None:
    """For a generator of random numbers what sets it to where it is now."""
    if isinstance(value, torch.Generator):
        return partial(value.set_state, value.get_state())
    if isinstance(value, random.Random):
        return partial(value.setstate, value.getstate())
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.random.Generator):
        return partial(setattr, value.bit_generator, "state", value.bit_generator.state)
    return None
