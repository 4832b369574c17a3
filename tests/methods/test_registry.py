"""The records: complete, frozen, and true about what they name."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any

import pytest

import filtersmith as fs
from filtersmith.methods import METHODS
from filtersmith.methods.registry import Method


def test_methods_are_known_by_their_names() -> None:
    assert list(METHODS) == [record.name for record in METHODS.values()]
    for name in METHODS:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name), name
    assert len({record.cls for record in METHODS.values()}) == len(METHODS), "no class is two methods"


@pytest.mark.parametrize("name", METHODS)
def test_a_record_is_one_line_of_what_a_public_name_does(name: str) -> None:
    record = METHODS[name]
    public = record.cls.__name__
    assert getattr(fs, public) is record.cls
    assert public in fs.__all__
    for text in (record.summary, record.paper):
        assert text.strip() == text != ""
        assert "\n" not in text


@pytest.mark.parametrize("name", METHODS)
def test_the_card_is_the_docstring_of_the_methods_own_file(name: str) -> None:
    record = METHODS[name]
    module = inspect.getmodule(record.cls)
    assert module is not None
    assert record.card == inspect.cleandoc(module.__doc__ or "")
    assert len(record.card.splitlines()) > 10
    assert record.card.splitlines()[0].strip() != ""


def test_a_record_cannot_be_changed_and_has_defaults() -> None:
    record: Any = METHODS["wau"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.summary = "other"
    fields = {field.name: field for field in dataclasses.fields(Method)}
    assert fields["same_network"].default is True
    assert callable(fields["off"].default_factory), "each record has its own"
