"""The result table: one model of its rows, for the terminal, for Markdown and (in the report) for HTML.

Every cell is made once, here; the writers only place it. Accuracies are percent, differences are percentage
points.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from filtersmith.lab.recipe.arms import split_arm
from filtersmith.lab.results.document import Comparison, Run
from filtersmith.lab.results.statistics import BASELINE, RESAMPLES, Difference, Spread, Summary, summarize

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.measure import Measurement
    from rich.table import Table as RichTable

NOTHING = "—"
MINUS = "\N{MINUS SIGN}"
TIME = "Time \N{MULTIPLICATION SIGN}"
FEW_SEEDS = 3
FIGURES_FIT = 76
"""Columns from which every figure fits into one line; on a narrower terminal figures wrap too."""

HEADS = (
    "Method",
    "Last epoch, %",
    "Δ to baseline [95% interval], points",
    "Best test epoch, %",
    TIME,
    "Parameters",
)


@dataclass(frozen=True)
class Row:
    """The cells of one method, in the order of `HEADS`; `note` says which of its seeds do not count."""

    method: str
    note: str
    last: str
    difference: str
    best: str
    time: str
    parameters: str

    @property
    def figures(self) -> tuple[str, ...]:
        """The cells right of the method."""
        return (self.last, self.difference, self.best, self.time, self.parameters)


@dataclass(frozen=True)
class Table:
    """Title, rows and footnotes of one comparison, all plain text."""

    title: str
    rows: tuple[Row, ...]
    footnotes: tuple[str, ...]


def build_table(comparison: Comparison) -> Table:
    """The table of a comparison, failed and missing runs included."""
    summaries = summarize(comparison)
    rows = tuple(_row(summary) for summary in summaries)
    return Table(comparison.title, rows, tuple(_footnotes(comparison, summaries)))


# --- cells -----------------------------------------------------------------------------------------------


def percent(fraction: float) -> str:
    """`0.97123` -> `97.12`."""
    return f"{100 * fraction:.2f}"


def points(fraction: float) -> str:
    """A signed difference in percentage points: `0.0045` -> `+0.45`; what rounds to zero has no sign."""
    text = f"{100 * fraction:+.2f}"
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)


def count(number: int) -> str:
    """Three significant digits: `19584` -> `19.6k`, `11173962` -> `11.2M`; numbers below 1,000 stay exact."""
    if number < 1000:
        return str(number)
    value, units = float(number), iter("kMGT")
    unit = ""
    while value >= 999.5:
        value, unit = value / 1000, next(units)
    return f"{value:#.3g}".rstrip(".") + unit


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


def _row(summary: Summary) -> Row:
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
        time=NOTHING if summary.time_ratio is None else f"{summary.time_ratio:.2f}",
        parameters=_parameters(summary.parameters_training, summary.parameters_deployed),
    )


# --- footnotes -------------------------------------------------------------------------------------------


def _footnotes(comparison: Comparison, summaries: Sequence[Summary]) -> Iterator[str]:
    asked = len(comparison.seeds)
    over = f"mean ± sample standard deviation over {asked} seeds" if asked > 1 else "one seed only"
    yield f"Last epoch: test accuracy after the last epoch, {over}."
    yield from _difference_notes(comparison, summaries)
    if any(split_arm(method)[1] is not None for method in comparison.methods):
        yield (
            "METHOD@NETWORK: trained with the same data and recipe on another network than the others' "
            f"{comparison.model}; Δ and {TIME} are relative to the baseline on {comparison.model} there, too."
        )
    yield (
        "Best test epoch: each run's highest test accuracy in percent, averaged; the test set chose the "
        "epoch, so the figure flatters every method."
    )
    yield (
        f"{TIME}: training time of an epoch relative to the baseline of the same seed, without evaluation "
        "(median over epochs, then over seeds)."
    )
    if any(s.parameters_deployed not in (None, s.parameters_training) for s in summaries):
        yield "Parameters: in training / deployed; one number where they are equal."
    if any(stop == comparison.epochs for s in summaries for run in s.finished for _, stop in run.sub_phases):
        yield "Deployed parameters that were set to zero for good do not count."
    for summary in summaries:
        for run in (*summary.failed, *summary.interrupted):
            yield _lost_run(run, comparison.epochs)


def _difference_notes(comparison: Comparison, summaries: Sequence[Summary]) -> Iterator[str]:
    if BASELINE not in comparison.methods:
        yield f"Δ and {TIME} are empty: the comparison has no method named {BASELINE}."
        return
    pairs = [summary.difference.pairs for summary in summaries if summary.difference]
    if not pairs:
        if len(comparison.methods) > 1:
            yield f"Δ and {TIME} are empty: no method finished a seed that the {BASELINE} finished too."
        return
    if max(pairs) == 1:
        yield "Δ: last epoch minus the baseline of the same seed; one seed gives no interval."
        return
    yield (
        "Δ: last epoch minus the baseline of the same seed, averaged; "
        f"95% percentile-bootstrap interval ({RESAMPLES:,} resamples of the seeds)."
    )
    if min(pairs) <= FEW_SEEDS:
        yield (
            f"With {FEW_SEEDS} or fewer seeds the interval is a rough guide: "
            "it spans at most the seeds' own differences."
        )


def _lost_run(run: Run, epochs: int) -> str:
    if run.status == "failed":
        return f"{run.method}, seed {run.seed}, failed: {_one_line(run.error or 'no reason was recorded')}"
    return f"{run.method}, seed {run.seed}, was interrupted after {len(run.epochs)} of {epochs} epochs."


def _one_line(text: str) -> str:
    return " ".join(text.split())


# --- Markdown --------------------------------------------------------------------------------------------


def to_markdown(table: Table) -> str:
    """GitHub Markdown: the title in bold, the table, the footnotes as a list; ends without a newline."""
    lines = [f"**{_markdown(table.title)}**", "", _pipes(HEADS), "|---|" + "---:|" * (len(HEADS) - 1)]
    for row in table.rows:
        method = code(row.method) + (f"<br>{_markdown(row.note)}" if row.note else "")
        lines.append(_pipes((method, *(_markdown(cell) for cell in row.figures))))
    return "\n".join([*lines, "", *(f"- {_markdown(note)}" for note in table.footnotes)])


def _pipes(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _markdown(text: str) -> str:
    # Only what Markdown would turn into something else; brackets followed by no link are left readable.
    escaped = re.sub(r"([\\`*_|~])", r"\\\1", _one_line(text))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace("](", "]\\(")


def code(text: str) -> str:
    """Markdown that shows the text as code, in a table, too."""
    return "`" + _one_line(text).replace("`", "'").replace("|", "\\|") + "`"


# --- terminal --------------------------------------------------------------------------------------------


def to_terminal(table: Table) -> TerminalTable:
    """Something for `rich.print`: long method names fold, and no cell is cut off at any width."""
    return TerminalTable(table)


@dataclass(frozen=True)
class TerminalTable:
    """Draws a table with rich at the width that the console turns out to have."""

    table: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.table import Table as RichTable
        from rich.text import Text

        yield Text(self.table.title, style="bold", overflow="fold")
        yield Text()
        yield self._grid(keep_figures_whole=options.max_width >= FIGURES_FIT)
        yield Text()
        notes = RichTable.grid(padding=(0, 1))
        notes.add_column(no_wrap=True)
        notes.add_column(overflow="fold")
        for note in self.table.footnotes:
            notes.add_row(Text("·", style="dim"), Text(note, style="dim"))
        yield notes

    def _grid(self, *, keep_figures_whole: bool) -> RichTable:
        from rich import box
        from rich.table import Table as RichTable
        from rich.text import Text

        grid = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
        grid.add_column(
            Text("Method"),
            overflow="fold",
        )
        for head in ("Last epoch,\n%", "Δ to baseline\n[95% interval],\npoints", "Best\ntest\nepoch"):
            grid.add_column(Text(head), justify="right", overflow="fold", no_wrap=keep_figures_whole)
        grid.add_column(Text(TIME.replace(" ", "\n")), justify="right", no_wrap=keep_figures_whole)
        grid.add_column(Text("Para-\nmeters"), justify="right", overflow="fold")
        for row in self.table.rows:
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
