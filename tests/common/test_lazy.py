"""A class that a record names is imported when it is asked for, and not before."""

from __future__ import annotations

import doctest
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from filtersmith.common import lazy
from filtersmith.common.lazy import Named


@dataclass(frozen=True)
class Record:
    name: str
    cls: Any = Named()  # noqa: RUF009


def test_it_is_given_or_named() -> None:
    assert Record("a", dict).cls is dict
    record = Record("b", "antigravity_is_no_module:fly")
    assert "antigravity_is_no_module" not in sys.modules
    with pytest.raises(ModuleNotFoundError):
        _ = record.cls
    assert Record("c", "fractions:Fraction").cls is sys.modules["fractions"].Fraction


def test_a_record_needs_it() -> None:
    with pytest.raises(TypeError, match="cls"):
        Record("a")  # type: ignore[call-arg]


def test_the_example_in_the_docstring() -> None:
    assert doctest.testmod(lazy).failed == 0
