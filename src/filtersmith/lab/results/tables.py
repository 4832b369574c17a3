"""The result table: one model of its rows, for the terminal, for Markdown and (in the report) for HTML.

Every cell is made once, here; the writers only place it. Accuracies are percent, differences are percentage
points.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from filtersmith.lab.recipe.arms import split_arm
from filtersmith.lab.results.document import Comparison, Run
from filtersmith.lab.results.numbers import count, percent, points
from filtersmith.lab.results.statistics import RESAMPLES, Difference, Spread, Summary, summarize
from filtersmith.methods import BASELINE

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.measure import Measurement
    from rich.table import Table as RichTable

NOTHING = "—"
TIME = "Time \N{MULTIPLICATION SIGN}"
FEW_SEEDS = 3
FIGURES_FIT = 76
"""Columns from which every figure fits into one line; on a narrower terminal figures wrap too."""

HEADS = ("Method", "Last epoch, %", "Δ to baseline [95% interval], points", "Best test epoch, %")
"""The columns that every table has; then the times, where they mean something, and the parameters."""


@dataclass(frozen=True)
class Row:
    """The cells of one method, in the order of the heads; `note` says which of its seeds do not count.

    `time` is None in a table that prints no times.
    """

    method: str
    note: str
    last: str
    difference: str
    best: str
    time: str | None
    parameters: str

    @property
    def figures(self) -> tuple[str, ...]:
        """The cells right of the method."""
        times = () if self.time is None else (self.time,)
        return (self.last, self.difference, self.best, *times, self.parameters)


@dataclass(frozen=True)
class Table:
    """One comparison, all plain text: `remarks` hold for it alone, `legend` says how its columns are read."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[Row, ...]
    remarks: tuple[str, ...]
    legend: tuple[str, ...]


def build_table(comparison: Comparison) -> Table:
    """The table of a comparison, failed and missing runs included.

    Times are left out unless the document says that they were measured alone on the machine.
    """
    summaries = summarize(comparison)
    times = comparison.times_count
    return Table(
        comparison.title,
        (*HEADS, *([TIME] if times else []), "Parameters"),
        tuple(_row(summary, times) for summary in summaries),
        tuple(_remarks(comparison, summaries)),
        tuple(_legend(comparison, summaries)),
    )


def legend(tables: Iterable[Table]) -> list[str]:
    """How the columns of several tables are read, each note once."""
    return list(dict.fromkeys(note for table in tables for note in table.legend))


# --- cells -----------------------------------------------------------------------------------------------


def spread(value: Spread | None) -> str:
    """Mean and standard deviation in percent: `79.31 ± 0.28`."""
    if value is None:
        return NOTHING
    return percent(value.mean) + (f" ± {percent(value.std)}" if value.std is not None else "")


def _difference(value: Difference | None) -> str:
    if value is None:
        return NOTHING
    if value.low is None or value.high is None:
        return points(value.mean)
    return f"{points(value.mean)} [{points(value.low)}, {points(value.high)}]"


def _parameters(training: int | None, deployed: int | None) -> str:
    if training is None:
        return NOTHING
    if deployed is None or deployed == training:
        return count(training)
    return f"{count(training)} / {count(deployed)}"


def _time(ratio: float | None) -> str:
    return NOTHING if ratio is None else f"{ratio:.2f}"


def _row(summary: Summary, times: bool) -> Row:
    last = spread(summary.last)
    if summary.last is None:
        last = "failed" if summary.failed else "interrupted" if summary.interrupted else "not run"
    note = ""
    if len(summary.finished) < summary.asked:
        note = f"{len(summary.finished)} of {summary.asked} seed{'s' if summary.asked > 1 else ''}"
        note += f", {len(summary.failed)} failed" if summary.failed else ""
    return Row(
        method=summary.method,
        note=note,
        last=last,
        difference=_difference(summary.difference),
        best=NOTHING if summary.best is None else percent(summary.best.mean),
        time=_time(summary.time_ratio) if times else None,
        parameters=_parameters(summary.parameters_training, summary.parameters_deployed),
    )


# --- notes -----------------------------------------------------------------------------------------------


def _legend(comparison: Comparison, summaries: Sequence[Summary]) -> Iterator[str]:
    yield "Last epoch: test accuracy after the last epoch; of several seeds mean ± sample standard deviation."
    pairs = [summary.difference.pairs for summary in summaries if summary.difference]
    if pairs:
        yield (
            "Δ: last epoch minus the baseline of the same seed; of several seeds the mean, with its "
            f"95% percentile-bootstrap interval ({RESAMPLES:,} resamples of the seeds)."
        )
    if any(1 < seeds <= FEW_SEEDS for seeds in pairs):
        yield (
            f"With {FEW_SEEDS} or fewer seeds the interval is a rough guide: "
            "it spans at most the seeds' own differences."
        )
    if any(split_arm(method)[1] is not None for method in comparison.methods):
        yield (
            "METHOD@NETWORK: the same data and recipe on another network than the one in the title; "
            "it is compared with the baseline on the one in the title, too."
        )
    yield (
        "Best test epoch: each run's highest test accuracy in percent, averaged; the test set chose the "
        "epoch, so the figure flatters every method."
    )
    if comparison.times_count:
        yield (
            f"{TIME}: training time of an epoch relative to the baseline of the same seed, without evaluation "
            "(median over epochs, then over seeds)."
        )
    if any(s.parameters_deployed not in (None, s.parameters_training) for s in summaries):
        yield "Parameters: in training / deployed; one number where they are equal."
    if any(stop == comparison.epochs for s in summaries for run in s.finished for _, stop in run.sub_phases):
        yield "Deployed parameters that were set to zero for good do not count."


def _remarks(comparison: Comparison, summaries: Sequence[Summary]) -> Iterator[str]:
    empty = f"Δ and {TIME} are empty" if comparison.times_count else "Δ is empty"
    if BASELINE not in comparison.methods:
        yield f"{empty}: the comparison has no method named {BASELINE}."
    elif len(comparison.methods) > 1 and not any(summary.difference for summary in summaries):
        yield f"{empty}: no method finished a seed that the {BASELINE} finished too."
    for summary in summaries:
        for run in (*summary.failed, *summary.interrupted):
            yield _lost_run(run, comparison.epochs)


def _lost_run(run: Run, epochs: int) -> str:
    if run.status == "failed":
        return f"{run.method}, seed {run.seed}, failed: {_one_line(run.error or 'no reason was recorded')}"
    return f"{run.method}, seed {run.seed}, was interrupted after {len(run.epochs)} of {epochs} epochs."


def _one_line(text: str) -> str:
    return " ".join(text.split())


# --- Markdown --------------------------------------------------------------------------------------------


def to_markdown(table: Table, figures: int | None = None) -> str:
    """GitHub Markdown: title in bold, table, remarks as a list; no legend, and no newline at the end.

    `figures` keeps the first so many columns right of the method.
    """
    heads = table.heads if figures is None else table.heads[: figures + 1]
    lines = [f"**{_markdown(table.title)}**", "", pipes(heads), "|---|" + "---:|" * (len(heads) - 1)]
    for row in table.rows:
        method = code(row.method) + (f"<br>{_markdown(row.note)}" if row.note else "")
        lines.append(pipes((method, *(_markdown(cell) for cell in row.figures[:figures]))))
    return "\n".join([*lines, *([""] if table.remarks else []), *notes_to_markdown(table.remarks)])


def notes_to_markdown(notes: Iterable[str]) -> list[str]:
    """Remarks or a legend as the items of a list."""
    return [f"- {_markdown(note)}" for note in notes]


def pipes(cells: Iterable[str]) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def _markdown(text: str) -> str:
    # Only what Markdown would turn into something else; brackets followed by no link are left readable.
    escaped = re.sub(r"([\\`*_|~])", r"\\\1", _one_line(text))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace("](", "]\\(")


def code(text: str) -> str:
    """Markdown that shows the text as code, in a table, too."""
    return "`" + _one_line(text).replace("`", "'").replace("|", "\\|") + "`"


# --- terminal --------------------------------------------------------------------------------------------


def to_terminal(tables: Sequence[Table]) -> Terminal:
    """Something for `rich.print`: long method names fold, no cell is cut off at any width, one legend for all."""
    return Terminal(tuple(tables))


@dataclass(frozen=True)
class Terminal:
    """Draws tables with rich at the width that the console turns out to have."""

    tables: tuple[Table, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        for table in self.tables:
            yield Text(table.title, style="bold", overflow="fold")
            yield Text()
            yield _grid(table, keep_figures_whole=options.max_width >= FIGURES_FIT)
            yield Text()
            if table.remarks:
                yield _notes(table.remarks)
                yield Text()
        yield _notes(legend(self.tables))


def _notes(notes: Iterable[str]) -> RichTable:
    from rich.table import Table as RichTable
    from rich.text import Text

    grid = RichTable.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for note in notes:
        grid.add_row(Text("·", style="dim"), Text(note, style="dim"))
    return grid


def _grid(table: Table, *, keep_figures_whole: bool) -> RichTable:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    grid = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    grid.add_column(Text("Method"), overflow="fold")
    for head in ("Last epoch,\n%", "Δ to baseline\n[95% interval],\npoints", "Best\ntest\nepoch"):
        grid.add_column(Text(head), justify="right", overflow="fold", no_wrap=keep_figures_whole)
    if TIME in table.heads:
        grid.add_column(Text(TIME.replace(" ", "\n")), justify="right", no_wrap=keep_figures_whole)
    grid.add_column(Text("Para-\nmeters"), justify="right", overflow="fold")
    for row in table.rows:
        figures = (*row.figures[:-1], row.parameters.replace(" / ", " /\n"))
        grid.add_row(_Method(row.method, row.note), *(Text(cell) for cell in figures))
    return grid


def fold(name: str, width: int) -> list[str]:
    """Break a method name into lines of at most `width`: where its parts meet, then at `=` or `-`, then anywhere.

    >>> fold("wau(rate=0.5,unit=input-channel)", 22)
    ['wau(rate=0.5,', 'unit=input-channel)']
    """
    lines = [""]
    for piece in _pieces(name, width):
        if lines[-1] and len(lines[-1]) + len(piece) > width:
            lines.append("")
        lines[-1] += piece
        while len(lines[-1]) > width:
            lines[-1:] = [lines[-1][:width], lines[-1][width:]]
    return lines


def _pieces(name: str, width: int) -> Iterator[str]:
    for piece in re.findall(r"@?[^,(+@]+[,(+]?|[,(+@]", name):
        yield from [piece] if len(piece) <= width else re.findall(r"[^=-]+[=-]?|[=-]", piece)


@dataclass(frozen=True)
class _Method:
    """The first cell of a row. Rich folds at spaces only, and method names have none."""

    name: str
    note: str

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        from rich.measure import Measurement

        return Measurement(12, max(len(self.name), len(self.note)))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        yield Text("\n".join(fold(self.name, options.max_width)), style="bold")
        if self.note:
            yield Text(self.note, style="yellow")
