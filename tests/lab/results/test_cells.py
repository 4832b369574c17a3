"""Figures as cells."""

from __future__ import annotations

from filtersmith.lab.results.cells import NOTHING, difference_cell, spread_cell
from filtersmith.lab.results.statistics import Difference, Spread


def test_accuracies_in_percent() -> None:
    assert spread_cell(Spread(0.7931, 0.0028)) == "79.31 ± 0.28"
    assert spread_cell(Spread(0.7931, None)) == "79.31"
    assert spread_cell(None) == NOTHING


def test_differences_in_points() -> None:
    assert difference_cell(Difference(0.01, 0.005, 0.015, (0.01,) * 3)) == "+1.00 [+0.50, +1.50]"
    assert difference_cell(Difference(0.0028, None, None, (-0.0028, 0.0083))) == "+0.28 (−0.28, +0.83)"
    assert difference_cell(Difference(-0.01, None, None, (-0.01,))) == "−1.00"
    assert difference_cell(None) == NOTHING
