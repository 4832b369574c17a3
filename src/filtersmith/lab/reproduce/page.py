"""The page of a table: ours beside the paper's in each setting, one HTML file that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from filtersmith.lab.papers.published import Table, compared_with, paper
from filtersmith.lab.papers.sets import SETS
from filtersmith.lab.reproduce.conclusions import conclude
from filtersmith.lab.reproduce.measured import Measured, Setting
from filtersmith.lab.reproduce.over_epochs import over_epochs
from filtersmith.lab.reproduce.show import notes, numbered, of_data, row_name
from filtersmith.lab.reproduce.table import HEADS, cells, claimed, with_something
from filtersmith.lab.reproduce.verdict import RULE
from filtersmith.lab.results.differences import Chart, Compared, Subject, chart_of
from filtersmith.lab.results.numbers import MINUS, points
from filtersmith.lab.results.page import need_extra, render_page
from filtersmith.lab.results.sentences import evidence, sentence
from filtersmith.lab.tasks.names import info_of

CAPTION = "Difference to the row that each row is compared with, percentage points"


def file_name(table: Table) -> str:
    """The file of a table's page."""
    return f"{table.id.replace('/', '-')}.html"


def render(table: Table, found: Mapping[Setting, Sequence[Measured]]) -> str:
    """The page as text. ``ValueError`` where the extra `report` is not installed."""
    need_extra()
    return render_page(
        "reproduce.html.j2",
        title=f"{table.id}: {table.title}",
        claimed=claimed(table),
        paper=paper(table.paper),
        sections=[_section(table, rows, setting) for setting, rows in found.items()],
        heads=HEADS,
        rule=RULE,
    )


def _section(table: Table, found: Sequence[Measured], setting: Setting) -> dict[str, Any]:
    return {
        "title": setting.words,
        "chart": chart(table, found),
        "conclusions": conclude(found, setting),
        "rows": [_row(table, one) for one in with_something(found)],
        "shown": f"{_which(table, found)}: {table.metric}, {table.unit}",
        "notes": [*of_data(setting), *notes(table, found)],
        "over_epochs": over_epochs(found),
        "hardware": _hardware(found),
    }


def _row(table: Table, one: Measured) -> tuple[str, ...]:
    name, *others = cells(table, one)
    return f"{one.row.n}: {name}", *others


def _which(table: Table, found: Sequence[Measured]) -> str:
    """Which rows were looked at: p is corrected over these alone."""
    rows = [one.row.n for one in found]
    return "All rows" if len(rows) == len(table.rows) else f"{numbered(rows).capitalize()} of {len(table.rows)}"


def _hardware(found: Sequence[Measured]) -> dict[str, str]:
    """Rows -> what they were run on."""
    rows: dict[str, list[int]] = {}
    for one in found:
        if one.hardware:
            rows.setdefault("; ".join(one.hardware), []).append(one.row.n)
    return {numbered(numbers).capitalize(): name for name, numbers in rows.items()}


def chart(table: Table, found: Sequence[Measured]) -> Chart | None:
    """Every difference that was measured, with the paper's; ``None`` where there is none."""
    drawn = [one for one in found if one.difference is not None]
    seeds = sorted({seed for one in drawn for seed in one.paired})
    of = Subject(CAPTION, _lead(drawn), "row", "the rows that they are compared with")
    return chart_of([_compared(table, one) for one in drawn], of, seeds)


def _compared(table: Table, one: Measured) -> Compared:
    assert one.difference is not None
    said, shown = sentence(one.difference), evidence(one.difference, len(one.seeds))
    return Compared(
        _label(table, one),
        one.difference,
        said if one.verdict is None else f"{one.verdict.word}: {said}",
        shown if one.published is None else f"paper {points(one.published)}; {shown}",
        one.paired,
        one.published,
    )


def _label(table: Table, one: Measured) -> str:
    """Which two rows are compared, and the name of the first."""
    other = compared_with(one.row, table)
    assert other is not None
    place = "" if other[0] is table else f"{other[0].id} "
    return f"row {one.row.n} {MINUS} {place}row {other[1].n}: {row_name(one.row)}"


def _scores(drawn: Sequence[Measured]) -> str:
    """What is compared: the score of the task."""
    names = dict.fromkeys(info_of(SETS[one.row.data].task).score for one in drawn)
    return " or ".join(names) or "score"


def _lead(drawn: Sequence[Measured]) -> str:
    best = [one.row.n for one in drawn if one.row.reported == "best"]
    some = f" ({numbered(best)}: of the best test epoch)" if best else ""
    return (
        f"Each row is compared with the row that the table names: test {_scores(drawn)} of its last epoch{some}, "
        "minus that of the other row with the same seed. Right of the line is better."
    )
