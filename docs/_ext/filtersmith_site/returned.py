"""Which classes a reader meets that have no public name: those that public calls return and take."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterable, Iterator
from typing import Any


def classes_met(values: Iterable[Any]) -> list[type]:
    """Classes of filtersmith in the signatures of these and, in turn, of what is found; by name, without these."""
    known, new = set(), {value for value in values if inspect.isclass(value) or inspect.isroutine(value)}
    given = set(new)
    while new:
        known |= new
        new = {cls for value in new for cls in _named(value)} - known
    return sorted(known - given, key=lambda cls: cls.__name__.lower())


def _named(value: Any) -> Iterator[type]:
    for function in [value] if inspect.isroutine(value) else _shown(value):
        yield from _within(_hints(function))


def _shown(cls: type) -> Iterator[Any]:
    """The calls of a class that its page shows: the constructor, methods and properties with docstrings."""
    yield cls.__init__
    for name, value in vars(cls).items():
        function = getattr(value, "fget", None) or getattr(value, "__func__", value)
        if not name.startswith("_") and inspect.isroutine(function) and function.__doc__:
            yield function


def _hints(function: Any) -> list[Any]:
    try:
        return list(typing.get_type_hints(function).values())
    except (NameError, TypeError):  # a name for type checkers alone
        return []


def _within(hints: Iterable[Any]) -> Iterator[type]:
    for hint in hints:
        if inspect.isclass(hint) and hint.__module__.startswith("filtersmith"):
            yield hint
        arguments = typing.get_args(hint)
        yield from _within(
            argument for outer in arguments for argument in (outer if isinstance(outer, list) else [outer])
        )
