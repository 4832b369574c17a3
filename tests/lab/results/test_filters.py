"""What methods do to filters: a row for each, differences paired by seed, curves."""

from __future__ import annotations

import csv
import io

import pytest
from reference.example_results import compared, everything, run

from filtersmith.lab.results import filters
from filtersmith.lab.results.curves import filter_pictures
from filtersmith.lab.results.document import Comparison, Filters, Run
from filtersmith.lab.results.figures import method_styles
from filtersmith.lab.results.markdown import whole
from filtersmith.lab.results.tables import build_table


def recorded(method: str, seed: int, sums: list[float], dead: int = 0, correlation: float | None = 0.25) -> Run:
    """A run of which the overlap after each epoch is known, and the correlation after the last one."""
    plain = run(method, seed, [0.5 + 0.1 * n for n in range(len(sums))])
    epochs = [
        epoch.model_copy(
            update={
                "filters": Filters(
                    ortho_sum=value,
                    rank=0.9,
                    dead=dead,
                    filters=96,
                    correlation=correlation if number == len(sums) else None,
                )
            }
        )
        for number, (epoch, value) in enumerate(zip(plain.epochs, sums, strict=True), 1)
    ]
    return plain.model_copy(update={"epochs": tuple(epochs)})


def comparison() -> Comparison:
    runs = [recorded("baseline", seed, [20.0, 16.0 + seed]) for seed in range(3)]
    runs += [recorded("repr", seed, [20.0, 14.0 + 2 * seed], dead=3, correlation=0.2) for seed in range(3)]
    return compared([*runs, run("wau", 0, [0.5, 0.6])])


def test_a_row_has_means_and_differences_to_the_baseline_of_the_same_seed() -> None:
    base, ours, unknown = filters.rows(comparison())
    assert base == ("baseline", "17.00", "—", "90.0", "—", "0.250", "—", "0 of 96")
    assert ours[:2] == ("repr", "16.00")
    assert ours[2] == "−1.00 [−3.48, +1.48]", "of −2, −1 and 0, by Student's t"
    assert ours[6].startswith("−0.050")
    assert ours[7] == "3 of 96"
    assert unknown == ("wau", *["—"] * 7)
    assert {len(row) for row in filters.rows(comparison())} == {len(filters.HEADS)}
    assert len(set(filters.HEADS)) == len(filters.HEADS), "each difference is named"


def test_what_was_not_recorded_has_no_table_and_no_pictures() -> None:
    assert filters.rows(everything()) == []
    assert not build_table(everything()).more
    assert filter_pictures(everything(), method_styles([everything()])) == []


def test_tables_have_the_rows_and_the_legend() -> None:
    table = build_table(comparison())
    assert table.more[0].rows[1][0] == "repr"
    assert filters.LEGEND in table.legend
    assert "| `repr` | 16.00 | −1.00 [−3.48, +1.48] |" in whole([comparison()])


def test_curves_over_the_epochs() -> None:
    pytest.importorskip("matplotlib", reason="the figures need the extra filtersmith[report]")
    overlap, rank, dead = filter_pictures(comparison(), method_styles([comparison()]))
    assert overlap.caption.startswith("Ortho-sum")
    rows = list(csv.reader(io.StringIO(overlap.csv)))
    assert ["baseline", "2", "17.0", "16.0", "18.0"] in rows
    assert ["wau", "1", "", "", ""] in rows
    assert "repr 16" in overlap.alt
    assert "baseline 90" in rank.alt
    assert "repr 3" in dead.alt
