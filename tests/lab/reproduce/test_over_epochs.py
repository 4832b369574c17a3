"""A table's curves: a figure for each network, one line for rows that share their runs."""

from __future__ import annotations

import csv

import pytest
from lab.reproduce.entries import entry

from filtersmith.lab.papers.published import Table, table
from filtersmith.lab.reproduce.arms import arm_of
from filtersmith.lab.reproduce.ledger import Entry
from filtersmith.lab.reproduce.measured import Measured, measure, settings
from filtersmith.lab.reproduce.over_epochs import over_epochs
from filtersmith.lab.reproduce.page import render

pytest.importorskip("matplotlib", reason="pages need the extra filtersmith[report]")


def of_rows(of: Table, entries: list[Entry]) -> list[Measured]:
    (setting,) = settings(of, entries)
    return measure(of, entries, setting)


def test_a_line_is_the_mean_of_the_seeds_of_a_row() -> None:
    of = table("wau/fig5")
    first, plain = (arm_of(of.row(number), of) for number in (1, 5))
    entries = [
        entry(first, 0, (0.1, 0.5)),
        entry(first, 1, (0.3, 0.6)),
        entry(plain, 0, (0.2, 0.9)),
    ]
    (drawn,) = over_epochs(of_rows(of, entries))
    assert drawn.picture.caption == "Test accuracy, %, by epoch"
    heads, *rows = csv.reader(drawn.picture.csv.splitlines())
    assert heads == ["method", "epoch", "mean", "lowest seed", "highest seed"]
    assert [[float(cell) for cell in row[1:]] for row in rows] == [
        [1, 20, 10, 30],
        [2, 55, 50, 60],
        [1, 20, 20, 20],
        [2, 90, 90, 90],
    ]
    assert [name.partition(": ")[0] for name in drawn.rows] == ["row 1", "row 5"]
    assert len({drawn.styles[name] for name in drawn.rows}) == 2
    page = render(of, {settings(of, entries)[0]: of_rows(of, entries)})
    assert (
        page.index("<h3>Over the epochs</h3>") < page.index(drawn.picture.source) < page.index("How it was measured")
    )


def test_rows_that_are_phases_of_one_run_are_one_line() -> None:
    of = table("wau/table4")
    flow = [row for row in of.trained() if row.run == "asa"]
    assert [row.phase for row in flow] == [1, 2, 3]
    (drawn,) = over_epochs(of_rows(of, [entry(arm_of(flow[0], of), 0, (0.1, 0.2, 0.3), phase_starts=(1, 2))]))
    assert [name.partition(": ")[0] for name in drawn.rows] == ["rows 1, 2, 3"]


def test_of_many_rows_every_network_has_its_own_figure() -> None:
    of = table("wau/table1")
    every = {row.name: row for row in of.trained()}
    entries = [
        entry(arm_of(row, of), 0, (0.4, 0.5), data="digits") for row in of.trained() if row.name in list(every)[:3]
    ]
    captions = [one.picture.caption for one in over_epochs(of_rows(of, entries))]
    assert captions == [f"Test accuracy, %, {name}, by epoch" for name in list(every)[:3]]


def test_without_runs_there_is_no_figure() -> None:
    assert over_epochs([Measured(row) for row in table("wau/fig5").rows]) == []


def test_scores_of_one_run_have_figures_of_their_own() -> None:
    of = table("repr/table6")
    scores = {"yes/no": (0.5, 0.6), "number": (0.1, 0.2), "other": (0.3, 0.4)}
    drawn = over_epochs(of_rows(of, [entry(arm_of(of.row(1), of), 0, (0.4, 0.5), scores=scores, data="VQA v1")]))
    assert [one.picture.caption for one in drawn] == [
        "Test accuracy, %, by epoch",
        "Test yes/no, %, by epoch",
        "Test other, %, by epoch",
        "Test number, %, by epoch",
    ]
    assert ",2,60," in drawn[1].picture.csv.replace(".0,", ",")
