"""The cells of a table."""

from __future__ import annotations

from dataclasses import replace

from lab.reproduce.entries import every_verdict

from filtersmith.lab.papers.published import table
from filtersmith.lab.reproduce.measured import measure, settings
from filtersmith.lab.reproduce.table import HEADS, cells, claimed, with_something


def test_a_row_has_a_cell_for_each_head() -> None:
    of, entries = table("repr/table1"), every_verdict()
    first, _, third, _ = measure(of, entries, settings(of, entries)[0])
    row = dict(zip(HEADS, cells(of, third), strict=True))
    assert (row["Paper"], row["Ours"], row["Seeds"], row["Δ paper"]) == ("76.4", "75.33 ± 0.76", "3", "+4.30")
    assert (row["Δ ours [95% interval]"], row["Verdict"]) == ("+4.33 [+3.62, +5.05]", "agrees")
    assert cells(of, first)[3:] == ("3", *["—"] * 4), "it is compared with none"
    named = replace(third, row=replace(third.row, method="a|b"))
    assert "a|b" in cells(of, named)[0], "Markdown escapes it, not this"


def test_rows_that_only_were_not_run_are_left_out() -> None:
    of, entries = table("repr/table1"), every_verdict()
    found = measure(of, entries, settings(of, entries)[1])
    assert [one.row.n for one in found] == [5, 6, 7, 8]
    assert [one.row.n for one in with_something(found)] == [5, 7]
    counted = measure(table("repr/table4"), [], settings(of, entries)[0])
    assert all(not one.row.trained for one in with_something(counted))


def test_ours_ask_and_the_papers_claim() -> None:
    assert claimed(table("repr/table1")).startswith("Claims: RePr gains 4 points and more;")
    assert claimed(table("repr/controls")).startswith("Asks whether ")
