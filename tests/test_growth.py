"""The benchmark of how costs grow: its exponents, its rows and its picture."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from benchmarks.growth import CURVES, exponent, row
from reference.project_scripts import script_of

SQUARE = {"work": "A", "over": "filters", "sizes": [8, 16, 32], "ms": [1, 4, 16], "exponent": 2, "of_parameters": 1}


def test_exponents_are_those_of_powers() -> None:
    assert exponent(SQUARE["sizes"], SQUARE["ms"]) == pytest.approx(2)  # type: ignore[arg-type]
    layers = next(curve for curve in CURVES if curve.over == "layers")
    assert layers.parameters(5) == 64 * (9 * (3 + 4 * 64) + 5) + 4 * 2 * 64 + 64 * 10 + 10


def test_a_row_has_both_ends_and_no_exponent_of_parameters_that_stay() -> None:
    assert row(SQUARE) == ("A", "filters", "8 to 32", "1 to 16", "2.00", "1.00")
    assert row(SQUARE | {"over": "batch", "of_parameters": None})[-1] is None


def test_the_picture_is_drawn_from_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "results" / "performance"
    folder.mkdir(parents=True)
    others = [SQUARE | {"over": over, "work": "B"} for over in ("layers", "batch")]
    (folder / "growth.json").write_text(json.dumps({"curves": [SQUARE, *others]}))
    drawn = []
    for _ in range(2):
        assert script_of("draw_growth").main(["--root", str(tmp_path)]) == 0
        assert capsys.readouterr().out.split() == [str(folder / "growth.svg")]
        drawn.append((folder / "growth.svg").read_bytes())
    assert drawn[0] == drawn[1]
    assert ET.fromstring(drawn[0]).tag.endswith("svg")
    axes = script_of("draw_growth").draw([SQUARE, *others]).axes
    assert [one.get_legend().texts[0].get_text() for one in axes] == ["A: 2.00", "B: 2.00", "B: 2.00"]
    assert list(axes[0].lines[0].get_ydata()) == SQUARE["ms"]
