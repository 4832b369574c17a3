"""What `filtersmith list` shows, each thing once and in order, also where it is narrow."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from filtersmith import zoo
from filtersmith.lab import listing
from filtersmith.lab.data import SOURCES
from filtersmith.lab.recipe.config import recipe_comment, recipe_names
from filtersmith.methods import METHODS


def shown(what: str, width: int = 250) -> str:
    file = io.StringIO()
    Console(file=file, width=width, color_system=None).print(listing.LISTS[what]())
    return file.getvalue()


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("what", "rows"),
    [
        ("methods", {"baseline": "plain training"} | {m.name: m.summary for m in METHODS.values()}),
        ("data", SOURCES),
        ("recipes", {name: recipe_comment(name) for name in recipe_names()}),
    ],
)
def test_a_row_for_each_in_their_order(what: str, rows: dict[str, str]) -> None:
    _, *lines = shown(what, width=1000).splitlines()
    assert [line.split()[0] for line in lines] == list(rows)
    for line, text in zip(lines, rows.values(), strict=True):
        assert words(text) in words(line)
    narrow = shown(what, width=60)
    assert all(len(line) <= 60 for line in narrow.splitlines())
    assert [name for name in rows if name not in narrow] == [], "names are never cut"


def test_sources_of_methods_stand_beside_them() -> None:
    text = shown("methods")
    assert all(m.paper in text for m in METHODS.values())


def test_sizes_of_networks_and_markup_in_names(monkeypatch: pytest.MonkeyPatch) -> None:
    info = next(info for info in zoo.MODELS if info.pattern == "lenet5")
    monkeypatch.setattr(zoo, "MODELS", [info])
    for costs, expected in {
        (1_234, 9_994_999): "1,234 9.99 M",
        (12_345_678, 99_949_999): "12,345,678 99.9 M",
        (1, 999_000_000): "1 999 M",
        (2, 1_500_000_000): "2 1.50 G",
        (3, 25_000_000_000): "3 25.0 G",
    }.items():
        monkeypatch.setattr(zoo, "costs", lambda name, task, costs=costs: costs)
        assert f"lenet5 {expected} 28x28x1" in words(shown("models"))


def test_a_library_that_is_missing_is_named_once_and_an_error_of_our_own_is_not_hidden(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(*_: Any) -> None:
        raise ValueError("networks of [x] need it: pip install it")

    monkeypatch.setattr(zoo, "costs", missing)
    monkeypatch.setattr(zoo, "MODELS", [info for info in zoo.MODELS if info.library])
    text = shown("models")
    assert text.count("networks of [x] need it: pip install it") == 1
    assert [name for info in zoo.MODELS for name in info.names if f"  {name}" not in text] == []
    monkeypatch.undo()
    monkeypatch.setattr(zoo, "costs", missing)
    with pytest.raises(ValueError, match="need it"):
        listing.models()
