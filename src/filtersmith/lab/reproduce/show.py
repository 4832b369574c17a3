"""Tables of the papers beside what was measured, as lines of text; each begins with the id of its table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from filtersmith.common.words import noun, plural
from filtersmith.lab.papers.published import COUNTED, NOT_RUN, PAPERS, Row, Table, paper
from filtersmith.lab.papers.sets import SETS, needed
from filtersmith.lab.reproduce.arms import PRETRAINED
from filtersmith.lab.reproduce.ledger import Entry
from filtersmith.lab.reproduce.measured import Measured, Setting, counted, is_drop, is_error, measure, settings
from filtersmith.lab.reproduce.verdict import RULE, SAME_IMAGES
from filtersmith.lab.results.cells import NOTHING, difference_cell
from filtersmith.lab.results.numbers import percent, points
from filtersmith.lab.results.sentences import p_in_words
from filtersmith.lab.results.statistics import Spread


def listing(entries: Sequence[Entry]) -> Iterator[str]:
    """Every table: what it claims, its rows, what was measured so far, the verdicts."""
    for key in PAPERS:
        one = paper(key)
        yield f"{key}: {one.title}, {one.venue}"
        for table in one.tables:
            yield f"  {table.id}: {table.claim}"
            yield f"    {_rows_in_words(table)}; {_so_far(table, entries)}"
            if own := table.own_copies():
                yield f"    needs {'; '.join(map(needed, own))}"


def _rows_in_words(table: Table) -> str:
    trained = len(table.trained())
    parts = [f"{plural(len(table.rows), 'row')}"]
    parts += [f"{trained} trained"] if trained else []
    if count := sum(row.kind in COUNTED for row in table.rows):
        parts.append(f"{count} counted")
    if rest := sum(not row.trained and row.kind not in COUNTED for row in table.rows):
        parts.append(f"{rest} not run")
    return ", ".join(parts)


def _so_far(table: Table, entries: Sequence[Entry]) -> str:
    """What was measured, by setting, and how often each verdict stands there."""
    parts = []
    for setting in settings(table, entries):
        found = measure(table, entries, setting)
        runs = sum(len(one.seeds) for one in found)
        words = [one.verdict.word for one in found if one.verdict is not None and one.seeds]
        said = ", ".join(f"{word} {words.count(word)}" for word in dict.fromkeys(words))
        parts.append(f"{setting.words}: {plural(runs, 'run')}" + (f" ({said})" if said else ""))
    return "; ".join(parts) or "nothing measured yet"


def result(table: Table, found: Sequence[Measured], setting: Setting) -> Iterator[str]:
    """The rows of a table in a setting, ours beside the paper's, with verdicts and the rule."""
    yield f"{table.id}: {table.title}"
    yield f"{table.id}: {setting.words}; {table.metric}, {table.unit}; {hardware_in_words(found)}"
    for one in found:
        yield f"{table.id} {one.row.n}: {_row(table, one)}"
    for note in (*of_data(setting), *notes(table, found)):
        yield f"{table.id}: {note}"
    yield f"{table.id}: {RULE}"


def of_data(setting: Setting) -> Iterator[str]:
    """What is known of the data of a setting."""
    if setting.data in SAME_IMAGES:
        yield (
            f"{setting.data} has the images of {SAME_IMAGES[setting.data]}, compressed again: figures are not those "
            "of the paper's data; differences are compared"
        )


def notes(table: Table, found: Sequence[Measured]) -> Iterator[str]:
    """What is known against the printed numbers of some rows, and what our seeds have in common."""
    numbers = {one.row.n for one in found}
    for note in table.notes:
        if note.severity in ("inconsistent", "suspicious", "protocol") and (not note.rows or {*note.rows} & numbers):
            yield f"{note.id}, {note.severity}: {note.text}"
    if taught := [str(one.row.n) for one in found if one.row.teacher and one.seeds]:
        yield f"one teacher for all seeds of row {', '.join(taught)}: how much teachers differ is not in the interval"
    if begun := [str(one.row.n) for one in found if one.row.begins_with and one.seeds]:
        yield (
            f"{PRETRAINED} pretrained networks for all seeds of row {', '.join(begun)}: how much more of them would "
            "differ is not in the interval"
        )


def counts(table: Table, rows: Iterable[Row]) -> Iterator[str]:
    """Rows for which nothing is trained: what is counted of their networks, beside the paper's numbers."""
    for row in rows:
        yield f"{table.id} {row.n}: {_row(table, Measured(row))}"


def hardware_in_words(found: Sequence[Measured]) -> str:
    """On what the rows were run: one machine for all, or which rows on which."""
    rows = {name: [one.row.n for one in found if name in one.hardware] for one in found for name in one.hardware}
    if len(rows) < 2:
        return f"on {next(iter(rows))}" if rows else "not run yet"
    return "; ".join(f"{numbered(ns)} on {name}" for name, ns in rows.items())


def numbered(rows: Sequence[int]) -> str:
    """Rows by their numbers: `row 3`, `rows 1, 3`."""
    return f"{noun(len(rows), 'row')} {', '.join(map(str, rows))}"


def _row(table: Table, one: Measured) -> str:
    row = one.row
    parts = [row_name(row), f"paper {paper_cell(row) or 'prints none'}", f"ours {_ours(table, one)}"]
    if one.difference is not None:
        there = "" if one.published is None else f"paper {points(one.published)}, "
        figures = (f"Δ {there}ours {difference_cell(one.difference)} points", p_in_words(one.difference))
        parts.append(", ".join(filter(None, figures)))
    if one.verdict is not None and one.seeds:
        parts.append(str(one.verdict))
    return "; ".join(parts)


def _params(row: Row) -> list[str]:
    """The options that the paper gives, in a few words."""
    shown = {name: value for name, value in row.params.items() if value != "not stated" and name != "layers"}
    return [f"{name} = {value}" for name, value in shown.items()]


def row_name(row: Row) -> str:
    """Model, method, the options that the paper gives, data; of a run that several rows share its score."""
    own = row.data in SETS and SETS[row.data].form
    return ", ".join(filter(None, [row.name, row.method, *_params(row), row.dataset, row.metric if own else ""]))


def paper_cell(row: Row) -> str:
    """The printed number, with its spread; empty where there is none."""
    return row.printed + (f" ± {row.std_printed}" if row.std_printed else "")


def ours_cell(table: Table, one: Measured) -> str:
    """What we have of a row, in the paper's kind of number; or what was counted, or why there is nothing.

    That is after the last epoch, or of the best one where the paper's rows are.
    """
    if one.last is None or one.best is None:
        return _not_run(one, table)
    if is_drop(one.row):
        return NOTHING if one.difference is None else points(-one.difference.mean).removeprefix("+")
    best = one.row.reported == "best"
    return _figure(table, one.row, one.best if best else one.last) + (" (best epoch)" if best else "")


def _figure(table: Table, row: Row, value: Spread) -> str:
    return _mean(table, row, value) + ("" if value.std is None else f" ± {percent(value.std)}")


def _mean(table: Table, row: Row, value: Spread) -> str:
    return percent(1 - value.mean if is_error(row, table) else value.mean)


def _ours(table: Table, one: Measured) -> str:
    """The same with the number of seeds, and the other epoch beside it."""
    if one.last is None or one.best is None:
        return ours_cell(table, one)
    seeds = plural(len(one.seeds), "seed")
    if is_drop(one.row):  # of other epochs the accuracies are known, not what is lost
        return f"{ours_cell(table, one)} ({seeds})"
    name, value = ("last", one.last) if one.row.reported == "best" else ("best", one.best)
    mean = _mean(table, one.row, value)
    return f"{ours_cell(table, one)} ({seeds}; {name} epoch {mean})"


def _not_run(one: Measured, table: Table) -> str:
    row = one.row
    if one.alike:
        return f"too short at this scale to be told from row {', '.join(map(str, one.alike))}"
    if row.kind in COUNTED:
        value = counted(row, table)
        what = " (multiply-adds)" if row.kind == "time" else ""
        return f"{value:.4g}{what}"
    if row.trained:
        return "not run yet"
    return row.why or NOT_RUN.get(row.kind, "") or f"see {row.see}"


def recipes(table: Table) -> Iterator[str]:
    """How the rows of a table are trained: each choice with its source."""
    names = dict.fromkeys(row.recipe for row in table.trained())
    for name in names:
        recipe = paper(table.paper).recipe(name)
        yield f"{table.id}: recipe {name}: {recipe.about}"
        for choice in recipe.choices:
            yield f"{table.id}:   {choice.name} = {choice.value} ({choice.source})"
