"""Tables of results drawn in a terminal with rich, at the width that it has."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from filtersmith.lab.results.tables import TIME, More, Table, legend

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.measure import Measurement
    from rich.table import Table as RichTable
    from rich.text import Text

FIGURES_FIT = 76
"""Columns from which every figure fits into one line; on a narrower terminal figures wrap too."""
SCORES_FIT = 120
"""Columns from which all scores of a task stand in one table; else those beside the main one have their own."""
ROWS_FIT = 160
"""Columns from which every row has one line, with all that it says of its method, and so do the heads."""


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
            yield _grid(table, options.max_width)
            yield Text()
            if table.scores[1:] and options.max_width < SCORES_FIT:
                yield _more(_scores(table), options.max_width)
                yield Text()
            for more in table.more:
                yield _more(more, options.max_width)
                yield Text()
            if said := tuple(f"{row.method}: {row.line}" for row in table.rows if row.line):
                yield Lines(said)
                yield Text()
            if table.remarks:
                yield Lines(table.remarks, "dim")
                yield Text()
        yield Lines(tuple(legend(self.tables)), "dim")


@dataclass(frozen=True)
class Lines:
    """A line or more of each note; what goes over the edge is continued below its beginning."""

    notes: tuple[str, ...]
    style: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        for note in self.notes:
            lines = Text(note, style=self.style).wrap(console, max(options.max_width - 2, 1), overflow="fold")
            for number, line in enumerate(lines):
                line.rstrip()
                yield Text.assemble(("  " if number else "· ", "dim"), line)


def _grid(table: Table, width: int) -> RichTable:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    whole, wide = width >= FIGURES_FIT, width >= ROWS_FIT
    scores = table.scores if width >= SCORES_FIT else table.scores[:1]
    heads = [f"{score},\n%" for score in scores]
    heads += ["Δ to baseline\n[95% interval],\npoints", "Best\ntest\nepoch"]
    heads += [TIME.replace(" ", "\n")] if TIME in table.heads else []
    grid = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    grid.add_column(Text("Method"), overflow="fold")
    for head in heads:
        grid.add_column(
            Text(head.replace("\n", " ") if wide else head), justify="right", overflow="fold", no_wrap=whole
        )
    grid.add_column(Text("Parameters" if wide else "Para-\nmeters"), justify="right", overflow="fold")
    for row in table.rows:
        times = () if row.time is None else (row.time,)
        parameters = row.parameters if wide else row.parameters.replace(" / ", " /\n")
        more = (
            row.more if wide else [cell.partition(" ±")[0] for cell in row.more[: len(scores) - 1]]
        )  # the mean alone
        figures = (row.last, *more, row.difference, row.best, *times, parameters)
        grid.add_row(_Method(row.method, row.note, wide), *(Text(cell) for cell in figures))
    return grid


def _scores(table: Table) -> More:
    """What is measured beside the main score."""
    heads = (table.heads[0], *(f"{score}, %" for score in table.scores[1:]))
    return More("", heads, tuple((row.method, *row.more) for row in table.rows))


def _more(table: More, width: int) -> RichTable:
    """A table below the main one; on a narrow terminal means and intervals stand below one another."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    wide = width >= ROWS_FIT
    grid = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    grid.add_column(Text(table.heads[0]), overflow="fold")
    for head in table.heads[1:]:
        grid.add_column(Text(head), justify="right", overflow="fold")
    for text, *cells in table.rows:
        shown = cells if wide else [cell.replace(" [", "\n[").replace(", ", ",\n") for cell in cells]
        grid.add_row(_Method(text, "", wide), *map(Text, shown))
    return grid


def fold(name: str, width: int) -> list[str]:
    """Break a method name into lines of at most `width`: where its parts meet, then at `=` or `-`, then anywhere.

    >>> fold("wau(rate=0.5,unit=input-channel)", 22)
    ['wau(rate=0.5,', 'unit=input-channel)']
    """
    return _packed(_pieces(name, width), width)


def fold_at_dots(name: str, width: int) -> list[str]:
    """Break the name of a layer into lines of at most `width`: at its dots, and inside of a part that is too long.

    >>> fold_at_dots("features.denseblock1.denselayer1.conv1", 22)
    ['features.denseblock1.', 'denselayer1.conv1']
    """
    return _packed(_parts(name), width)


def _parts(name: str) -> list[str]:
    return re.findall(r"[^.]+\.?|\.", name)


def _packed(pieces: Iterable[str], width: int) -> list[str]:
    """As many pieces on each line as fit; what is longer than a line is broken anywhere."""
    lines = [""]
    for piece in pieces:
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
class LayerName:
    """A cell with the name of a layer, which goes on in the next line behind a dot where the column is narrow."""

    name: str

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        from rich.measure import Measurement

        return Measurement(max(map(len, _parts(self.name)), default=0), len(self.name))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        yield Text("\n".join(fold_at_dots(self.name, options.max_width)))


@dataclass(frozen=True)
class _Method:
    """The first cell of a row. Rich folds at spaces only, and method names have none."""

    name: str
    note: str
    beside: bool
    """Whether the note stands beside the name, not below it."""

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        from rich.measure import Measurement

        if self.beside:
            return Measurement.get(console, options, self._one_line())
        return Measurement(12, max(len(self.name), len(self.note)))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        if self.beside:
            yield self._one_line()
            return
        yield Text("\n".join(fold(self.name, options.max_width)), style="bold")
        if self.note:
            yield Text(self.note, style="yellow")

    def _one_line(self) -> Text:
        from rich.text import Text

        note = f" ({self.note})" if self.note else ""
        return Text.assemble((self.name, "bold"), (note, "yellow"), overflow="fold")
