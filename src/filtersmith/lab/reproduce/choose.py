"""Which rows are asked for, and which missing runs are worth most."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from filtersmith.common.options import bad_option
from filtersmith.lab.papers.published import COUNTED, NOT_RUN, Row, Table, compared_with, table, tables
from filtersmith.lab.reproduce.arms import key_of, keys_of
from filtersmith.lab.reproduce.ledger import Entry, found


@dataclass(frozen=True)
class Chosen:
    """A row with its table."""

    table: Table
    row: Row


PRIORITY: tuple[tuple[str, tuple[int, ...]], ...] = (
    # One claim a paper first; each with what it is compared with.
    ("repr/table1", (1, 3)),
    ("repr/controls", (3, 4)),
    ("kflo/table1", (1, 25)),
    ("repr/table3", (2, 5, 6)),
    ("wau/table6", (10, 5)),
    ("wau/controls", (3,)),
    ("dacnn/table2", (3, 1, 7, 5)),
    # Then what else the same networks have.
    ("kflo/table1", (13, 19, 7)),
    ("repr/table1", (2, 4)),
    ("repr/controls", (5, 6, 7)),
    ("repr/public", (1, 2, 3, 4)),
    ("wau/table6", (4, 3, 9)),
    ("wau/table6-code", (3, 4)),
    ("wau/table1", (2, 6)),
    ("dacnn/table4", (1, 10)),
    ("dacnn/table7", (1, 5)),
)
"""What `--next` runs first, in this order, with as many seeds as asked; then everything else, the cheapest first."""


def chosen(name: str, rows: str | None) -> list[Chosen]:
    """The trained rows of a table that are asked for, and those that they are compared with.

    Args:
        name: of the table.
        rows: numbers separated by commas, or part of a model's or method's name; ``None``: all.

    Raises:
        ValueError: an unknown table or row; none of the rows can be trained.
    """
    of = table(name)
    asked = selected(of, rows)
    able = [row for row in asked if row.trained]
    if not able:
        raise ValueError(f"{of.id}: {_why_none(asked)}")
    found = [Chosen(of, row) for row in able]
    for one in list(found):
        other = compared_with(one.row, one.table)
        if other is not None and other[1].trained:
            found.append(Chosen(*other))
    return list(dict.fromkeys(found))


def selected(of: Table, rows: str | None) -> tuple[Row, ...]:
    """The rows of a table that are asked for, trained or not."""
    return of.rows if rows is None else _matching(of, rows)


def _matching(of: Table, text: str) -> tuple[Row, ...]:
    if re.fullmatch(r"[0-9]+(\s*,\s*[0-9]+)*", text.strip()):
        return tuple(of.row(int(number)) for number in text.split(","))
    words = text.strip().lower()
    found = tuple(row for row in of.rows if words and any(words in name.lower() for name in _names(row)))
    if not found:
        models = dict.fromkeys(row.name for row in of.rows)
        methods = dict.fromkeys(row.method for row in of.rows if row.trained)
        raise bad_option("rows", text, f"a number, or part of a name among {', '.join([*models, *methods])}")
    return found


def _names(row: Row) -> tuple[str, ...]:
    return row.name, row.model, row.method, row.network


def _why_none(rows: Iterable[Row]) -> str:
    """Why nothing of some rows is trained."""
    reasons = []
    for row in rows:
        if row.kind in COUNTED:
            reasons.append("is counted, not trained")
        else:
            reasons.append(row.why or NOT_RUN.get(row.kind, f"is measured by {row.see}"))
    return "; ".join(dict.fromkeys(reasons))


def by_value(cost: dict[str, float] | None = None) -> Iterator[Chosen]:
    """Every trained row, the most valuable first; those without a place by the ``cost`` of their arms' keys."""
    done: set[tuple[str, int]] = set()
    for name, numbers in PRIORITY:
        of = table(name)
        for number in numbers:
            done.add((name, number))
            yield Chosen(of, of.row(number))
    rest = [Chosen(of, row) for of in tables() for row in of.trained() if (of.id, row.n) not in done]
    yield from sorted(rest, key=lambda one: (cost or {}).get(key_of(one.row, one.table), 0.0))


def missing(
    rows: Iterable[Chosen], seeds: Iterable[int], entries: Iterable[Entry], scale: float
) -> Iterator[tuple[Chosen, int]]:
    """The runs of rows that the ledger does not have, row by row; an arm that several rows share comes once.

    ``entries`` are those on the data of a call.
    """
    wanted, every, seen = list(seeds), list(entries), set()
    for one in rows:
        keys = keys_of(one.row, one.table, scale)
        there, key = {seed for key in keys for seed in found(every, key)}, keys[0]
        for seed in wanted:
            if seed not in there and (key, seed) not in seen:
                seen.add((key, seed))
                yield one, seed
