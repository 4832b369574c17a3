from __future__ import annotations

import csv
import io
import json

import pytest
from reference.example_results import LONG_NAME, by_method, everything

from filtersmith.lab.results import rows

FIELDS = [
    *("method", "n", "pairs", "mean", "std", "difference", "low", "high", "p", "p_holm", "detectable"),
    *("best_epoch_mean", "time_ratio", "parameters_training", "parameters_deployed", "status"),
]


def strict(text: str) -> list[dict[str, object]]:
    """As a reader does that knows JSON's own numbers only."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_a_row_has_its_fields_in_their_order_and_null_for_what_cannot_be_said():
    found = strict(rows.to_json([everything()]))
    assert [list(row) for row in found] == [FIELDS] * 6
    baseline, long, kflo, asa, lost, never = found
    assert (baseline["mean"], baseline["best_epoch_mean"]) == pytest.approx((0.91, 0.92))
    assert [name for name, value in baseline.items() if value is None] == [*FIELDS[2:3], *FIELDS[5:11], "time_ratio"]
    assert (long["method"], long["pairs"], long["p"], long["p_holm"]) == (LONG_NAME, 3, 0.25, 0.5)
    assert kflo["difference"] == pytest.approx(0.04)
    assert kflo["low"] < 0.04 < kflo["high"]
    assert (kflo["parameters_training"], kflo["parameters_deployed"]) == (25_400_000, 11_173_962)
    assert (asa["n"], asa["pairs"], asa["std"], asa["difference"]) == (2, 2, 0.0, pytest.approx(0.065))
    assert (asa["low"], asa["p"], asa["detectable"]) == (None, None, None)
    assert (lost["n"], lost["pairs"], lost["mean"], lost["difference"]) == (0, 0, None, None)
    assert [row["status"] for row in found] == ["finished"] * 3 + ["incomplete", "failed", "not run"]
    timed = everything().model_copy(update={"times_measured_alone": True})
    assert [row["time_ratio"] for row in rows.rows([timed])[:3]] == [1.0, 1.0, 2.5]
    assert never["parameters_training"] is None


def test_several_comparisons_are_told_apart():
    other = by_method({"baseline": [0.5]}).model_copy(update={"title": "other"})
    found = strict(rows.to_json([everything(), other]))
    assert [list(row) for row in found] == [["comparison", *FIELDS]] * 7
    assert [row["comparison"] for row in found] == [everything().title] * 6 + ["other"]


def test_csv_holds_the_same_with_empty_cells():
    comparison = by_method({"baseline": [0.5, 0.25, 0.75], "wau": [0.75, 0.5, 0.5], 'a "b",c': [0.5, 0.5, 0.5]})
    lines = list(csv.DictReader(io.StringIO(rows.to_csv([comparison, comparison]))))
    wanted = rows.rows([comparison, comparison])
    assert [list(line) for line in lines] == [["comparison", *FIELDS]] * 6
    assert [list(line.values()) for line in lines] == [
        ["" if value is None else str(value) for value in row.values()] for row in wanted
    ]
    assert "None" not in rows.to_csv([comparison])
