"""The figures that a listing shows are those of the networks."""

from __future__ import annotations

import json

import pytest

from filtersmith import zoo
from filtersmith.zoo.figures import figures, to_json


def test_every_listed_network_has_its_figures() -> None:
    assert list(figures()) == [name for info in zoo.MODELS for name in info.names], "make networks"


@pytest.mark.parametrize("info", zoo.MODELS, ids=lambda info: info.pattern)
def test_the_figures_are_those_of_the_networks(info: zoo.ModelInfo) -> None:
    if info.library:
        pytest.importorskip(info.library)
    counted = {name: zoo.costs(name, info.listed_for) for name in info.names}
    assert counted == {name: figures()[name] for name in info.names}, "make networks"


def test_the_file_has_a_line_for_each_network() -> None:
    counted = {"a": (1, 2), "b-3": (30_000, 4)}
    text = to_json(counted)
    assert text.splitlines()[1:-1] == [' "a": [1, 2],', ' "b-3": [30000, 4]']
    assert json.loads(text) == {"a": [1, 2], "b-3": [30_000, 4]}
