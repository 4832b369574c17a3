"""A paper's table beside ours as cells of text, for Markdown and for the page."""

from __future__ import annotations

from collections.abc import Sequence

from filtersmith.lab.papers.published import Table
from filtersmith.lab.reproduce.measured import Measured
from filtersmith.lab.reproduce.show import ours_cell, paper_cell, row_name
from filtersmith.lab.results.cells import NOTHING, difference_cell, p_cell
from filtersmith.lab.results.numbers import points

HEADS = ("Row", "Paper", "Ours", "Seeds", "Δ paper", "Δ ours [95% interval]", "p (Holm)", "Verdict")


def claimed(table: Table) -> str:
    """What the paper claims with a table, or what one of ours asks, and where it stands."""
    claim = f"Asks whether {table.claim}" if table.kind == "ours" else f"Claims: {table.claim}"
    return f"{claim}. {table.location}."


def with_something(found: Sequence[Measured]) -> list[Measured]:
    """The rows without those that only were not run yet."""
    return [one for one in found if one.seeds or one.alike or not one.row.trained]


def cells(table: Table, one: Measured) -> tuple[str, ...]:
    """A row of the table, a cell for each of `HEADS`."""
    return (
        row_name(one.row),
        paper_cell(one.row) or NOTHING,
        ours_cell(table, one),
        str(len(one.seeds)) if one.seeds else NOTHING,
        NOTHING if one.published is None else points(one.published),
        difference_cell(one.difference),
        p_cell(one.difference),
        str(one.verdict) if one.verdict is not None and one.seeds else NOTHING,
    )
