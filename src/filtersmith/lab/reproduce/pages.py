"""The pages of ``docs/results``, from the ledger: which claims hold, and each paper's tables beside ours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from filtersmith.common.words import plural
from filtersmith.lab.papers.published import PAPERS, Paper, Table, compared_with, paper, tables
from filtersmith.lab.papers.sets import needed
from filtersmith.lab.reproduce.arms import key_of
from filtersmith.lab.reproduce.ledger import Entry
from filtersmith.lab.reproduce.measured import Measured, Setting, measure, settings
from filtersmith.lab.reproduce.show import hardware_in_words, notes
from filtersmith.lab.reproduce.table import HEADS, cells, claimed, with_something
from filtersmith.lab.reproduce.verdict import OTHER_DATA, RULE
from filtersmith.lab.results.cells import NOTHING
from filtersmith.lab.results.markdown import pipes

MADE = "<!-- Made from results/ledger by scripts/update_tables.py: change that, not this. -->"


def pages(entries: Sequence[Entry]) -> dict[str, str]:
    """File name -> text of every page."""
    found = {f"{key}.md": _page(paper(key), entries) for key in PAPERS}
    return {"README.md": _first(entries), **found}


def _first(entries: Sequence[Entry]) -> str:
    """One screen: what each paper's tables have, and the claims that runs on a paper's own data decide."""
    lines = [
        MADE,
        "# The papers' tables",
        "",
        standing(entries),
        "",
        pipes(("Paper", "Tables with a run", "Verdicts")),
    ]
    lines.append("|---|---:|---|")
    every = {key: _comparable(paper(key), entries) for key in PAPERS}
    for key, found in every.items():
        ran, trained = _ran(paper(key).tables, entries)
        link = f"[{paper(key).title}]({key}.md)"
        lines.append(pipes((link, f"{ran} of {trained}", _counted(_at_full_length(found)))))
    if any(every.values()):
        lines += ["", pipes(("Claim", "Measured", "Verdicts")), "|---|---|---|"]
    for key, found in every.items():
        for table, setting, of in found:
            link = f"[{table.id}]({key}.md#{_anchor(table)})"
            lines.append(pipes((f"{link}: {table.claim}", _measured_in_words(of, setting), _counted(of))))
    lines += ["", RULE, "", _missing(entries)]
    return "\n".join(lines) + "\n"


def standing(entries: Sequence[Entry]) -> str:
    """What the ledger says of the claims, in a few sentences."""
    current = [entry for entry in entries if entry.current]
    ran, trained = _ran(tables(), current)
    whole = sum(entry.scale == 1 for entry in current)
    found = [one for key in PAPERS for one in _at_full_length(_comparable(paper(key), current))]
    return (
        f"The ledger has {plural(len(current), 'run')} for {ran} of {trained} tables"
        + (f", {whole} of the full schedule. " if whole else ". ")
        + (
            f"Verdicts at full length on the paper's data: {_counted(found)}."
            if found
            else "No published difference was measured at full length on a paper's data: no claim is decided."
        )
    )


def _ran(of: Iterable[Table], entries: Sequence[Entry]) -> tuple[int, int]:
    """How many tables have a run, of those that can be trained."""
    able = [table for table in of if table.trained()]
    return sum(bool(settings(table, entries)) for table in able), len(able)


def _comparable(of: Paper, entries: Sequence[Entry]) -> list[tuple[Table, Setting, list[Measured]]]:
    """The tables of a paper that were run on its own data, in each setting, with the rows that have a verdict."""
    found = []
    for table in of.tables:
        for setting in settings(table, entries):
            rows = [
                one
                for one in measure(table, entries, setting)
                if one.seeds and one.verdict is not None and one.verdict.word != OTHER_DATA
            ]
            if rows:
                found.append((table, setting, rows))
    return found


def _at_full_length(found: Iterable[tuple[Table, Setting, list[Measured]]]) -> list[Measured]:
    """The rows of the full schedule; a run that stands in several tables for the same question once."""
    asked: dict[tuple[str, Setting, str, float | None], Measured] = {}
    for table, setting, rows in found:
        for one in rows if setting.scale == 1 else ():
            other = compared_with(one.row, table)
            base = "" if other is None else key_of(other[1], other[0])
            asked.setdefault((key_of(one.row, table), setting, base, one.published), one)
    return list(asked.values())


def _counted(found: Iterable[Measured]) -> str:
    """How often each verdict stands."""
    words = [one.verdict.word for one in found if one.verdict is not None]
    return ", ".join(f"{word} {words.count(word)}" for word in dict.fromkeys(words)) or NOTHING


def _missing(entries: Sequence[Entry]) -> str:
    lacking = [table.id for table in tables() if table.trained() and not settings(table, entries)]
    if not lacking:
        return "Every table that can be trained has a run. `filtersmith reproduce --next` runs what is missing."
    return (
        f"Without a run yet: {', '.join(lacking)}. `filtersmith reproduce --next` runs what is missing, on any "
        "machine; the ledger adds up."
    )


def _measured_in_words(found: Sequence[Measured], setting: Setting) -> str:
    seeds = [len(one.seeds) for one in found if one.seeds]
    low, high = min(seeds, default=0), max(seeds, default=0)
    number = plural(high, "seed") if low == high else f"{low} to {high} seeds"
    return f"{setting.words}, {number}"


def _page(of: Paper, entries: Sequence[Entry]) -> str:
    lines = [
        MADE,
        f"# {of.title}",
        "",
        f"{of.venue}. {of.url}",
        "",
        f"`filtersmith reproduce {of.tables[0].id}` and so on. {RULE}",
    ]
    for table in of.tables:
        lines += ["", f"## {table.id}: {table.title}", "", claimed(table)]
        shown = settings(table, entries)
        for setting in shown:
            found = measure(table, entries, setting)
            lines += ["", *_table(table, found, setting)]
        if not shown:
            lines += ["", _nothing(table)]
    return "\n".join(lines) + "\n"


def _nothing(table: Table) -> str:
    if own := table.own_copies():
        return f"Not measured yet: needs {'; '.join(map(needed, own))}."
    return "Not measured yet." if table.trained() else "Numbers of the text: nothing of it is trained by itself."


def _table(table: Table, found: Sequence[Measured], setting: Setting) -> Iterator[str]:
    yield f"**{setting.words}** · {table.metric}, {table.unit} · {hardware_in_words(found)}"
    yield ""
    yield pipes(("", *HEADS))
    yield "|---:|---|---:|---:|---:|---:|---:|---:|---|"
    for one in with_something(found):
        yield pipes(cell.replace("|", "\\|") for cell in (str(one.row.n), *cells(table, one)))
    known = list(notes(table, found))
    yield from ["", *(f"- {note}" for note in known)] if known else []


def _anchor(table: Table) -> str:
    """The anchor that GitHub gives a heading."""
    heading = f"{table.id}: {table.title}".lower()
    return "".join(c for c in heading if c.isalnum() or c in " -_").replace(" ", "-")
