"""What every method owes its users: the checks of `filtersmith.testing`, for every registered method."""

from __future__ import annotations

import pytest

import filtersmith as fs
from filtersmith import METHODS, testing
from filtersmith.methods.spelling import option_names


@pytest.mark.parametrize("check", testing.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", METHODS)
def test_contract(name: str, check: object) -> None:
    check(METHODS[name])  # type: ignore[operator]


@pytest.mark.parametrize("name", METHODS)
def test_our_own_records_are_public_and_tried(name: str) -> None:
    record = METHODS[name]
    assert getattr(fs, record.cls.__name__) is record.cls, "a public name"
    assert record.cls.__name__ in fs.__all__
    assert f"fs.{record.cls.__name__}" in record.card, "how it is called"
    takes_options = bool(option_names(name))
    assert bool(record.refused) == takes_options, "options that it refuses"
    assert bool(record.tried) == takes_options, "options with which it does something"
    assert bool(record.off) == (record.same_network and not hasattr(record.cls, "prepare"))
    with pytest.raises(AttributeError):
        record.name = "other"  # type: ignore[misc]
