"""Names in the text of a method that mean something outside of it: a teacher's, of a run or a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from filtersmith.methods.lifecycle import of_class
from filtersmith.methods.spelling import Spelled, read, write


def names_in(method: str) -> Iterator[str]:
    """The teachers, and what else has a meaning outside, that a text with methods names.

    >>> list(names_in("wau+kd(teacher='runs/one')"))
    ['runs/one']
    """
    for one in read(method):
        for option in _named(one):
            value = one.options.get(option)
            yield from (name for name in (value if isinstance(value, list) else [value]) if isinstance(name, str))


def unnamed(method: str) -> str:
    """The text with all those names left open: equal of two that differ in where their teachers stand.

    >>> unnamed("kd(teacher='runs/one',weight=0.5)")
    "kd(teacher='',weight=0.5)"
    """
    try:
        return without_names(read(method))
    except ValueError:  # of a method that is not installed
        return method


def without_names(spelled: Iterable[Spelled]) -> str:
    """The same of methods that are read already."""
    return write([replace(one, options={**one.options, **dict(_left_open(one))}) for one in spelled])


def _left_open(one: Spelled) -> Iterator[tuple[str, Any]]:
    for option in _named(one):
        value = one.options.get(option)
        if isinstance(value, list):
            yield option, ["" if isinstance(name, str) else name for name in value]
        elif isinstance(value, str):
            yield option, ""


def _named(one: Spelled) -> tuple[str, ...]:
    """The options of a method that name something outside."""
    names: tuple[str, ...] = of_class(one.record.cls, "resolved", ())
    return names
