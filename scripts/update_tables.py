"""Write the result tables in the Markdown files anew from the results that they name, and docs/results.

A region begins with a line `<!-- table: WORDS -->` and ends with a line `<!-- /table -->`; what stands between them
belongs to this script. Paths are relative to the repository. The pages of docs/results are made of results/ledger, as
a whole. The words:

    results/NAME.json                          a comparison
    results/NAME.json short                    its first columns, for the README
    results/NAME.json ... beside results/papers/OTHER.json
                                               what was measured beside the rows of a paper that OTHER.json names
    results/tables/NAME.json                   rows and columns as the file has them
    results/performance/NAME.json              likewise, of what was measured
    legend                                     how the columns of all comparisons in results/ are read
    claims                                     what the ledger says of the papers' claims, in a few sentences
    claims tables                              every table that can be trained: its claim, what was measured, verdicts
    tasks                                      every task: its data, its network, what is measured
    methods                                    every method: what it does, what it costs, what it gained
    choose                                     every method: cost, gain and worst, of all comparisons in results/
    when-not                                   when not to use each method, from its card
    benchmarks/results.json times              what the benchmarks measured (or: memory)
    benchmarks/arithmetic.json                 what they counted
    benchmarks/sweep/NAME.json                 what a sweep found: outcomes, reasons, what could not be tried
    benchmarks/sweep/NAME.json counts          likewise, how many of each outcome a check has

    python scripts/update_tables.py             rewrite every file that is out of date
    python scripts/update_tables.py --check     change nothing; exit with 1 when a file is out of date
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filtersmith.common.words import plural
from filtersmith.lab.papers.published import PAPERS, Row, Table, paper, table
from filtersmith.lab.reproduce import ledger
from filtersmith.lab.reproduce.measured import Measured, measure, settings
from filtersmith.lab.reproduce.pages import pages, standing
from filtersmith.lab.reproduce.table import claimed
from filtersmith.lab.results.cells import NOTHING, difference_cell, spread_cell
from filtersmith.lab.results.document import Comparison, load, write_atomically
from filtersmith.lab.results.markdown import code, notes_to_markdown, pipes, to_markdown
from filtersmith.lab.results.numbers import percent, points
from filtersmith.lab.results.statistics import ENOUGH_PAIRS, Difference, Summary, summarize
from filtersmith.lab.results.tables import build_table, legend
from filtersmith.lab.tasks.names import TASKS
from filtersmith.methods import BASELINE, METHODS

ROOT = Path(__file__).resolve().parent.parent
BEGIN = re.compile(r"<!-- table: (?P<words>\S+(?: \S+)*) -->")
END = "<!-- /table -->"
FOLDERS = ("docs", "results", "benchmarks")
FENCE = "```"
WIDTH = 120
SHORT = 3
"""Figures of a short table: the last epoch, the difference to the baseline, and the words."""
OF_A_STEP = ("training step", "whole training")
"""What is timed of a method's cost in the table of the methods."""


def rewrite(text: str, root: Path) -> str:
    """The text with every region made anew; results are looked up below `root`.

    Raises ValueError when a region is not closed or its results cannot be read. Examples inside fenced code
    blocks are left alone.
    """
    return "".join(line + "\n" for line in _lines(text.splitlines(), root))


def _lines(lines: Sequence[str], root: Path) -> Iterator[str]:
    fenced, inside = False, False
    for number, line in enumerate(lines, start=1):
        if line.startswith(FENCE):
            fenced = not fenced
        begin = None if fenced else BEGIN.fullmatch(line.strip())
        if begin and inside:
            raise ValueError(f"line {number}: a table begins before {END} has closed the one above")
        if inside and line.strip() == END:
            inside = False
        if not inside:
            yield line
        if begin:
            inside = True
            yield ""
            yield from region(begin["words"].split(), root)
            yield ""
    if inside:
        raise ValueError(f"the last table is not closed by {END}")


def region(words: Sequence[str], root: Path) -> Iterator[str]:
    """The lines of one table."""
    match list(words):
        case ["legend"]:
            files = sorted((root / "results").glob("*.json"))
            yield from notes_to_markdown(legend(build_table(load(file)) for file in files))
        case ["claims"]:
            yield from textwrap.wrap(standing(ledger.load(root / "results" / "ledger")), WIDTH)
        case ["claims", "tables"]:
            yield from claims(ledger.load(root / "results" / "ledger"))
        case ["methods"]:
            yield from methods(root)
        case ["choose"]:
            yield from choose(root)
        case ["when-not"]:
            yield from when_not()
        case ["tasks"]:
            yield from tasks()
        case ["tasks", "short"]:
            yield from tasks(("", "Data", "Measured"))
        case ["benchmarks/results.json" as path, ("times" | "memory" | "images") as part]:
            yield from rows(_read(root / path)[part])
        case ["benchmarks/arithmetic.json" as path]:
            yield from rows(_arithmetic(_read(root / path)))
        case [path] if path.startswith("benchmarks/sweep/"):
            yield from swept(_read(root / path))
        case [path, "counts"] if path.startswith("benchmarks/sweep/"):
            yield from counted(_read(root / path))
        case [*paths, "beside", paper]:
            yield from beside([load(root / path) for path in paths], _read(root / paper))
        case [path] if path.startswith(("results/tables/", "results/performance/")):
            yield from rows(_read(root / path))
        case [path, "audit"]:
            yield from audited(_read(root / path))
        case [path]:
            yield from to_markdown(build_table(load(root / path))).splitlines()
        case [path, "short"]:
            yield from to_markdown(build_table(load(root / path)), SHORT).splitlines()
        case _:
            raise ValueError(f"no table is made of {' '.join(words)!r}")


def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def audited(document: dict[str, Any]) -> Iterator[str]:
    """The table of layers of an audit, under its verdict."""
    table = document["table"]
    yield f"**{document['target']}: {document['verdict']['headline']}**"
    yield ""
    for cells in (table["heads"], ["---", *["---:"] * (len(table["heads"]) - 1)], *table["rows"]):
        yield pipes(str(cell).replace("|", "\\|") for cell in cells)


def rows(table: dict[str, Any]) -> Iterator[str]:
    """A table that its file already has in rows and columns; what is no text yet is a ratio or nothing."""
    yield f"**{table['title']}**"
    yield ""
    left = table.get("text_columns", 1)
    for cells in (table["columns"], [*["---"] * left, *["---:"] * (len(table["columns"]) - left)], *table["rows"]):
        yield pipes(_cell(cell) for cell in cells)
    if table.get("notes"):
        yield ""
        yield from (f"- {note}" for note in table["notes"])


def _arithmetic(counted: dict[str, Any]) -> dict[str, Any]:
    return {
        "title": f"Multiplications of a training step relative to plain training: {counted['setting']}",
        "columns": ["Method", "Arithmetic ×"],
        "rows": [[code(name), value] for name, value in counted["ratios"].items()],
    }


def _cell(cell: str | float | None) -> str:
    return NOTHING if cell is None else cell if isinstance(cell, str) else ratio(cell)


def ratio(value: float) -> str:
    """Two decimals, or three where the third is not 0: `1.10`, `0.995`."""
    return f"{value:.3f}".removesuffix("0")


def beside(comparisons: Sequence[Comparison], named: dict[str, Any]) -> Iterator[str]:
    """What was measured and what a paper has, each method with its difference to the baseline of the same column.

    ``named["columns"]`` are the paper's: a title, and for a method's spelling here the row, as ``TABLE NUMBER``.
    """
    heads = [_setting(one) for one in comparisons]
    heads += [column["title"] for column in named["columns"]]
    published = [{method: _row(words) for method, words in column["rows"].items()} for column in named["columns"]]
    measured = [{summary.method: summary for summary in summarize(one)} for one in comparisons]
    yield "**Measured here, and in the paper: test accuracy, % (Δ to the baseline, points)**"
    yield ""
    yield pipes(("Method", *heads))
    yield "|---|" + "---:|" * len(heads)
    for method in dict.fromkeys(method for one in comparisons for method in one.methods):
        cells = [_measured(summaries.get(method)) for summaries in measured]
        cells += [_published(column, method) for column in published]
        yield pipes((code(method), *cells))
    yield ""
    of = dict.fromkeys(one for column in published for one, _ in column.values())
    yield f"Paper: {paper(next(iter(of)).paper).title}, {'; '.join(one.location for one in of)}."


def _row(words: str) -> tuple[Table, Row]:
    name, _, number = words.partition(" ")
    return table(name), table(name).row(int(number))


def _setting(one: Comparison) -> str:
    """What tells one comparison from another."""
    augmentation = [part for part in one.title.split(" · ") if part == "no augmentation"]
    return ", ".join([one.data_title, one.model, *augmentation, f"{one.epochs} epochs"])


def _measured(summary: Summary | None) -> str:
    if summary is None or summary.last is None:
        return NOTHING
    return spread_cell(summary.last) + (f" ({points(summary.difference.mean)})" if summary.difference else "")


def _published(column: Mapping[str, tuple[Table, Row]], method: str) -> str:
    if method not in column:
        return NOTHING
    mean, spread = _accuracy(*column[method]), column[method][1].std
    difference = "" if method == BASELINE else f" ({points(mean - _accuracy(*column[BASELINE]))})"
    return percent(mean) + ("" if spread is None else f" ± {percent(spread / 100)}") + difference


def _accuracy(of: Table, row: Row) -> float:
    """What a paper printed, as a share of the test images that are classified rightly."""
    if row.value is None:
        raise ValueError(f"{of.id} prints no number in row {row.n}")
    return (100 - row.value if of.of_errors else row.value) / 100


# --- the table of a sweep --------------------------------------------------------------------------------

OUTCOMES = {"passed": "✓", "refused": "refused", "wrong": "**wrong**"}
OF_ONE = re.compile(
    r"'[^']*'|\([^()]*(?:\([^()]*\)[^()]*)*\)?$|\b\w+(?= has no)|(?<= by )\S+"
    r"|(?<=that )\w+\(.*?\)(?= expands)|(?<=with )\w+\(.*?\)(?=:)"
)
"""What differs from one network to the next in a reason: names, lists in parentheses, numbers."""


def swept(found: Mapping[str, Any]) -> Iterator[str]:
    """What passes, is refused or is wrong; all of the same outcomes share a row, all of the same reason a note."""
    versions, tried = found["versions"], [row for row in found["rows"] if "outcomes" in row]
    groups = _grouped((tuple(row["outcomes"].values()), row) for row in tried)
    reasons = _grouped(
        ((row["outcomes"][check], check, reason), row)
        for row in tried
        for check, reason in row.get("reasons", {}).items()
    )
    cannot = _grouped((row["cannot"], row) for row in found["rows"] if "cannot" in row)
    columns = [f"{len(tried)} tried", *next(iter(tried))["outcomes"]]
    order = sorted(groups, key=lambda outcomes: len(outcomes) - outcomes.count("passed"))
    yield from rows(
        {
            "title": _where(versions),
            "text_columns": len(columns),
            "columns": columns,
            "rows": [[_names(groups[key]), *(OUTCOMES[word] for word in key)] for key in order],
            "notes": [
                *(f"{word}, {check}: {_names(of)}: {reason}" for (word, check, reason), of in reasons.items()),
                *(f"{reason}: {_names(of)}" for reason, of in cannot.items()),
                *_tried_again(found),
            ],
        }
    )


def counted(found: Mapping[str, Any]) -> Iterator[str]:
    """How many pass each check, are refused or are wrong; below it, reasons of a kind with all that have them."""
    tried = [row for row in found["rows"] if "outcomes" in row]
    ends = {check: [row["outcomes"].get(check) for row in tried] for check in tried[0]["outcomes"]}
    reasons: dict[tuple[str, str], dict[str, Any]] = {}
    for row in tried:
        for check, reason in row.get("reasons", {}).items():
            alike = reasons.setdefault((row["outcomes"][check], OF_ONE.sub("…", reason)), {"checks": {}, "rows": {}})
            alike["checks"][check] = alike["rows"][row["name"]] = row
    order = sorted(reasons.items(), key=lambda item: (item[0][0] != "wrong", -len(item[1]["rows"])))
    cannot = _grouped((row["cannot"], row) for row in found["rows"] if "cannot" in row)
    notes = [f"{w}, {', '.join(of['checks'])}: {why}: {_names(of['rows'].values())}" for (w, why), of in order]
    yield from rows(
        {
            "title": _where(found["versions"]),
            "text_columns": 4,
            "columns": [f"{len(tried)} tried", *OUTCOMES],
            "rows": [[check, *(str(words.count(word)) for word in OUTCOMES)] for check, words in ends.items()],
            "notes": [
                f"tried: {_names(tried)}",
                *notes,
                *(f"{why}: {_names(of)}" for why, of in cannot.items()),
                *_tried_again(found),
            ],
        }
    )


def _tried_again(found: Mapping[str, Any]) -> Iterator[str]:
    """What was tried at other commits than the rest."""
    groups = _grouped((row["commit"], row) for row in found["rows"] if "commit" in row)
    yield from (f"tried again at commit {commit}: {_names(of)}" for commit, of in groups.items())


def _where(versions: Mapping[str, str]) -> str:
    """Device, versions and commit, as the title of a table."""
    named = ", ".join(f"{name} {version}" for name, version in versions.items() if name not in ("commit", "device"))
    device = "the CPU" if versions["device"] == "cpu" else versions["device"]
    return f"On {device} with {named.replace('python', 'Python')} (commit {versions['commit']})"


def _grouped(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, list[Any]]:
    """Key -> all values that come with it, in their order."""
    found: dict[Any, list[Any]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found


def _names(of: Iterable[Mapping[str, str]]) -> str:
    """Names by library: ``torch: A, B; timm: c``."""
    libraries = _grouped((row["library"], code(row["name"])) for row in of)
    return "; ".join(f"{library}: {', '.join(names)}" for library, names in libraries.items())


def tasks(heads: Sequence[str] = ("", "What is trained", "Data", "Network by default", "Measured")) -> Iterator[str]:
    """What can be trained: its data, the network where none is named, what is measured."""
    yield f"| {' | '.join(head or '`--task`' for head in heads)} |"
    yield "|---" * len(heads) + "|"
    for name, info in TASKS.items():
        measured = ", ".join((info.score, *info.more))
        cells = {"": f"`{name}`", "What is trained": info.summary, "Data": info.data, "Measured": measured}
        cells["Network by default"] = f"`{info.network}`"
        yield f"| {' | '.join(cells[head] for head in heads)} |"


# --- the table of the methods ----------------------------------------------------------------------------


def methods(root: Path) -> Iterator[str]:
    """Every method of this package: its card, its line in the registry, its cost and its gains.

    results/tables/methods.json says which comparisons are shown, under which spelling a method stands in them, and
    whose cost it has where it has none of its own; "only" the methods for which a comparison is shown.
    """
    costs = _read(root / "benchmarks" / "results.json")["times"]
    counted = _read(root / "benchmarks" / "arithmetic.json")["ratios"]
    chosen = _read(root / "results" / "tables" / "methods.json")
    measured = [
        (one["title"], _some(summarize(load(root / "results" / one["file"])), one)) for one in chosen["settings"]
    ]
    heads = ("Method, card", "What it does", "Deployed network", "Cost of a step, ×", "Measured gain, points")
    yield pipes(heads)
    yield "|---" * len(heads) + "|"
    for record in METHODS.values():
        if file := _own_file(record.cls):
            arm = chosen["arms"].get(record.name, record.name)
            yield pipes(
                (
                    f"[{code(record.name)}]({file})",
                    record.summary,
                    "same" if record.same_network else "changes",
                    _cost(costs, counted, chosen["costs_as"].get(record.name, record.name)),
                    _gains(measured, arm),
                )
            )


def _some(summaries: Sequence[Summary], setting: Mapping[str, Any]) -> list[Summary]:
    """Those of the methods for which a comparison is shown: all, where it does not name them."""
    return [one for one in summaries if one.method in setting.get("only", [one.method])]


def _own_file(cls: object) -> str | None:
    """The file of a method's card, or None where another package has it."""
    module = cls.partition(":")[0] if isinstance(cls, str) else cls.__module__
    return f"src/{module.replace('.', '/')}.py" if module.startswith("filtersmith.") else None


def _cost(times: Mapping[str, Any], counted: Mapping[str, float], method: str) -> str:
    """Measured times where there are some, the counted arithmetic otherwise."""
    place = times["columns"].index("Time ×")
    measured = [row[place] for row in times["rows"] if row[0] == code(method) and row[1] in OF_A_STEP]
    if measured:
        return " to ".join(map(ratio, sorted({min(measured), max(measured)})))
    return f"({counted[method]:.2f})" if method in counted else NOTHING


def _gains(measured: Sequence[tuple[str, Sequence[Summary]]], arm: str) -> str:
    found = [(title, one.difference) for title, summaries in measured for one in summaries if one.method == arm]
    return "; ".join(f"{title} {gain(difference)}".strip() for title, difference in found if difference) or NOTHING


def gain(difference: Difference) -> str:
    """The mean and its interval; of fewer seeds than an interval needs, the difference of each."""
    if difference.pairs < ENOUGH_PAIRS:
        return ", ".join(map(points, difference.values))
    return difference_cell(difference)


# --- the papers' claims ----------------------------------------------------------------------------------


def claims(entries: Sequence[ledger.Entry]) -> Iterator[str]:
    """Every table that can be trained: what the paper claims by it, what was measured, and how often each verdict."""
    yield pipes(("Table", "Its claim, or what it asks", "Measured so far", "Verdicts on its rows"))
    yield "|---|---|---|---|"
    current = [entry for entry in entries if entry.current]
    for of in (one for key in PAPERS for one in paper(key).tables if one.trained()):
        runs = {one: [row for row in measure(of, current, one) if row.seeds] for one in settings(of, current)}
        found = {setting: measured for setting, measured in runs.items() if measured}
        told = [f"{setting.words}: {_rows_and_seeds(measured)}" for setting, measured in found.items()]
        words = [row.verdict.word for measured in found.values() for row in measured if row.verdict is not None]
        verdicts = [f"{word} {words.count(word)}" for word in dict.fromkeys(words)]
        yield pipes((code(of.id), claimed(of), "<br>".join(told) or NOTHING, ", ".join(verdicts) or NOTHING))


def _rows_and_seeds(measured: Sequence[Measured]) -> str:
    seeds = [len(row.seeds) for row in measured]
    return f"{plural(len(measured), 'row')}, {'up to ' * (min(seeds) < max(seeds))}{plural(max(seeds), 'seed')}"


# --- the tables of the page that helps to choose ---------------------------------------------------------

CARD_PART = re.compile(r"\*\*When not to use it\.\*\* (.*?)\n\n", re.S)


def choose(root: Path) -> Iterator[str]:
    """Every method of this package: cost, the comparison with the most seeds, lowest and highest of all others.

    The comparison with the most seeds, its spellings and the costs are those of results/tables/methods.json.
    results/tables/choose.json has the other comparisons, and under which spellings a method stands in them.
    """
    tables = root / "results" / "tables"
    named, chosen = _read(tables / "methods.json"), _read(tables / "choose.json")
    costs = _read(root / "benchmarks" / "results.json")["times"]
    counted = _read(root / "benchmarks" / "arithmetic.json")["ratios"]
    most = [_some(summarize(load(root / "results" / one["file"])), one) for one in named["settings"]]
    others = [(one["title"], summarize(load(root / "results" / one["file"]))) for one in chosen["elsewhere"]]
    heads = ("Method", "Network", "Cost of a step, ×", "Weights in training, ×", "Gain, points", "Seeds would show")
    yield pipes((*heads, "Lowest elsewhere", "Highest elsewhere"))
    yield "|---|---|---:|---:|---:|---:|---|---|"
    for record in METHODS.values():
        if not _own_file(record.cls):
            continue
        arm = named["arms"].get(record.name, record.name)
        summary = next((one for part in most for one in part if one.method == arm), None)
        difference = summary.difference if summary else None
        shows = points(difference.detectable).removeprefix("+") if difference and difference.detectable else NOTHING
        yield pipes(
            (
                code(record.name),
                "same" if record.same_network else "changes",
                _cost(costs, counted, named["costs_as"].get(record.name, record.name)),
                _weights(summary, next(one for one in most[0] if one.method == BASELINE)),
                difference_cell(difference),
                shows,
                *_extremes(others, chosen["spellings"].get(record.name, [record.name])),
            )
        )


def _weights(summary: Summary | None, plain: Summary) -> str:
    if summary is None or summary.parameters_training is None or not plain.parameters_training:
        return NOTHING
    return f"{summary.parameters_training / plain.parameters_training:.2f}"


def _extremes(others: Sequence[tuple[str, Sequence[Summary]]], arms: Sequence[str]) -> tuple[str, str]:
    """Lowest and highest mean difference, each with where it was found and with how many seeds."""
    found = [
        (one.difference.mean, f"{points(one.difference.mean)} ({title}; {plural(one.difference.pairs, 'seed')})")
        for title, summaries in others
        for one in summaries
        if one.method in arms and one.difference
    ]
    return (min(found)[1], max(found)[1]) if found else (NOTHING, NOTHING)


def when_not() -> Iterator[str]:
    """A list: when not to use each method, as its card says; methods of one card share an item."""
    cards = _grouped((record.card, record.name) for record in METHODS.values() if _own_file(record.cls))
    for card, names in cards.items():
        said = " ".join(CARD_PART.search(card)[1].split()).replace("``", "`")
        names = ", ".join(map(code, names))
        yield from textwrap.wrap(f"- **{names}**: {said}", WIDTH, subsequent_indent="  ", break_on_hyphens=False)


# --- the files -------------------------------------------------------------------------------------------


def markdown_files(root: Path) -> list[Path]:
    """The Markdown files of the repository: the README and its neighbours, and those of docs, results, benchmarks."""
    return sorted([*root.glob("*.md"), *(md for name in FOLDERS for md in root.glob(f"{name}/**/*.md"))])


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite or check; returns the exit code (0 fine, 1 out of date, 2 a region that cannot be filled)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="Markdown files (default: all of the repository)")
    parser.add_argument("--check", action="store_true", help="change nothing, exit with 1 when out of date")
    parser.add_argument("--root", type=Path, default=ROOT, help="where results paths start (default: the repository)")
    options = parser.parse_args(arguments)
    code = 0
    try:
        for file, new in due(options.files, options.root):
            if options.check:
                print(f"{file} is out of date: run python scripts/update_tables.py", file=sys.stderr)
                code = 1
            else:
                write_atomically(file, new)
                print(f"{file} updated")
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    return code


def due(files: Sequence[Path], root: Path) -> Iterator[tuple[Path, str]]:
    """The files that are out of date, of some or of all, each with its new text."""
    for file in files or markdown_files(root):
        try:
            old = file.read_text(encoding="utf-8")
            new = rewrite(old, root) if BEGIN.search(old) else old
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error
        if new != old:
            yield file, new
    runs = [] if files else ledger.load(root / "results" / "ledger")
    for name, new in pages(runs).items() if runs else ():
        file = root / "docs" / "results" / name
        if not file.is_file() or file.read_text(encoding="utf-8") != new:
            yield file, new


if __name__ == "__main__":
    sys.exit(main())
