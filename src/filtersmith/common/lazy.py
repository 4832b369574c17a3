"""Classes and functions that a record names, imported when they are first asked for."""

from __future__ import annotations

import importlib
from typing import Any


class Named:
    """A field of a dataclass: a class or function, given as itself or as the text ``"module:name"``.

    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Record:
    ...     made_by: Any = Named()
    >>> Record("collections:Counter").made_by.__name__
    'Counter'
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._given = f"_{name}"

    def __set__(self, record: Any, value: Any) -> None:
        object.__setattr__(record, self._given, value)  # also where the dataclass is frozen

    def __get__(self, record: Any, owner: type | None = None) -> Any:
        if record is None:
            raise AttributeError("it has no default")  # so that dataclass takes it for a field without one
        given = getattr(record, self._given)
        if not isinstance(given, str):
            return given
        module, _, name = given.partition(":")
        return getattr(importlib.import_module(module), name)
