"""Putting back what containers hold: lists, sets, dictionaries and queues, and those inside of them."""

from __future__ import annotations

import random
import sys
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch

_CHANGEABLE = (list, set, dict, deque, bytearray)


def contents(values: Iterable[Any]) -> Callable[[], None]:
    """A function that gives every container among the values, and inside of these, what it holds now.

    Tuples are looked into. So are generators of random numbers: they go on from here again. Containers that hold what
    they held are left alone.
    """
    puts: list[Callable[[], object]] = []
    seen: set[int] = set()
    left = list(values)
    while left:
        value = left.pop()
        held = _held(value)
        if held is not None and id(value) not in seen:
            seen.add(id(value))
            left += held
            puts += [_put_back(value)] if isinstance(value, _CHANGEABLE) else []
        elif (generator := _generator(value)) is not None:
            puts.append(generator)

    def restore() -> None:
        for put in puts:
            put()

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


def _held(value: Any) -> list[Any] | None:
    """What a container holds; ``None`` where the value is none."""
    if isinstance(value, dict):
        return list(dict.values(value))
    if isinstance(value, (list, set, deque, tuple)):
        return list(value)
    return [] if isinstance(value, bytearray) else None


def _put_back(container: Any) -> Callable[[], None]:
    """The container's own class says what changing it does; here only what it holds is changed."""
    if isinstance(container, dict):
        pairs = list(dict.items(container))

        def restore() -> None:
            if not _same([one for pair in pairs for one in pair], [o for p in dict.items(container) for o in p]):
                dict.clear(container)
                dict.update(container, pairs)

        return restore
    kind: Any = next(kind for kind in _CHANGEABLE if isinstance(container, kind))
    held = list(container)

    def restore_list() -> None:
        if not _same(held, list(container)):
            kind.clear(container)
            (set.update if kind is set else kind.extend)(container, held)

    return restore_list


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
