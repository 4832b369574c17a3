"""What `filtersmith list` shows, each thing once and in order, also where it is narrow."""

from __future__ import annotations

import io
import re
import sys

import pytest
from rich.console import Console

from filtersmith import zoo
from filtersmith.lab import listing
from filtersmith.lab.data import SOURCES
from filtersmith.lab.recipe.packaged import recipe_comment, recipe_names
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
    lines = [line for line in shown(what, width=1000).splitlines() if not line.startswith(" ")][1:]
    assert [line.split()[0] for line in lines] == list(rows)
    for line, text in zip(lines, rows.values(), strict=True):
        assert words(text) in words(line)
    narrow = shown(what, width=60)
    assert all(len(line) <= 60 for line in narrow.splitlines())
    assert [name for name in rows if name not in narrow] == [], "names are never cut"


@pytest.mark.parametrize("width", [72, 80, 200])
def test_methods_fold_between_words(width: int) -> None:
    written = {word for m in METHODS.values() for word in f"{m.name} {m.summary} {m.paper}".split()}
    written |= {"baseline", "plain", "training", "as", "it", "is", "changed"}
    written |= {"method", "what", "does", "deployed", "network", "source"}
    text = shown("methods", width)
    assert set(text.split()) == written
    assert max(map(len, text.splitlines())) <= width


def test_methods_that_cannot_be_loaded_stand_in_full_below_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    why = "some.module:METHOD of a-package: RuntimeError: no such card, for a reason that takes a sentence to tell"
    monkeypatch.setattr(METHODS, "_broken", {"one": why, "two": "other:METHOD: no"})
    table, _, below = shown("methods", 80).partition("one cannot be loaded: ")
    assert "Workshops 2019" in words(table)[-60:], "the last source"
    assert words(below) == f"{why} two cannot be loaded: other:METHOD: no"


def test_a_network_stands_with_its_size_its_cost_and_its_images(monkeypatch: pytest.MonkeyPatch) -> None:
    info = next(info for info in zoo.MODELS if info.pattern == "lenet5")
    monkeypatch.setattr(zoo, "MODELS", [info])
    rows = set()
    for costs in ((61_706, 416_520), (12_345_678, 416_520), (61_706, 1_500_000_000)):
        monkeypatch.setattr(listing, "figures", lambda costs=costs: {"lenet5": costs})
        text = words(shown("models"))
        row = re.search(r"lenet5 ([0-9,]+) ([0-9.]+ ?[kMG]) 28x28x1 ", text)
        assert row is not None, text
        assert row[1] == f"{costs[0]:,}"
        rows.add(row[0])
        assert f"{info.pattern}: {info.summary}" in text
    assert len(rows) == 3


def test_a_library_that_is_missing_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = "need torchvision, which is not installed"
    monkeypatch.setitem(sys.modules, "torchvision", None)
    text = words(shown("models"))
    assert text.count(missing) == 1
    assert "torchvision:resnet50 25,557,032 4.09G" in text, "its figures are known all the same"
    monkeypatch.setattr(zoo, "MODELS", [info for info in zoo.MODELS if not info.library])
    assert missing not in words(shown("models")), "nobody asks for it"
