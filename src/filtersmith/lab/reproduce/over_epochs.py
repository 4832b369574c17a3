"""Test accuracy, or another score, over the epochs of a table's rows; of many rows, a figure for each network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from filtersmith.lab.papers.sets import SETS
from filtersmith.lab.reproduce.measured import Measured, over_epochs_of
from filtersmith.lab.reproduce.show import numbered, row_name
from filtersmith.lab.results.curves import MOST_BANDS, Curve, curve_of, curve_picture
from filtersmith.lab.results.figures import Style, styles_of
from filtersmith.lab.results.picture import Picture
from filtersmith.lab.tasks.names import info_of


@dataclass(frozen=True)
class Drawn:
    """A figure and its legend.

    Attributes:
        styles: row -> how it is drawn.
        rows: that are drawn.
        picture: the figure.
    """

    styles: dict[str, Style]
    rows: tuple[str, ...]
    picture: Picture


def over_epochs(found: Sequence[Measured]) -> list[Drawn]:
    """The figures of the rows that have runs."""
    lines: dict[tuple[str, str], list[Measured]] = {}  # phases of a flow are rows that share their runs
    for one in found:
        if one.runs:
            lines.setdefault((one.runs[0].key, one.row.score), []).append(one)
    figures: dict[str, list[Curve]] = {}
    for rows in lines.values():
        network = f", {rows[0].row.name}" if len(lines) > MOST_BANDS else ""
        figures.setdefault(f"Test {_score(rows[0])}, %{network}", []).append(_curve(rows))
    return [_figure(caption, curves) for caption, curves in figures.items()]


def _figure(caption: str, curves: Sequence[Curve]) -> Drawn:
    rows = tuple(curve.method for curve in curves)
    styles = styles_of(rows)
    return Drawn(styles, rows, curve_picture(caption, curves, styles, ".2f"))


def _score(one: Measured) -> str:
    """What is measured over the epochs."""
    return one.row.score or info_of(SETS[one.row.data].task).score


def _curve(rows: Sequence[Measured]) -> Curve:
    runs = rows[0].runs
    name = f"{numbered([one.row.n for one in rows])}: {row_name(rows[0].row)}"
    return curve_of(
        name,
        [[100 * accuracy for accuracy in over_epochs_of(run, rows[0].row)] for run in runs],
        [start for run in runs for start in run.phase_starts],
        [phase for run in runs for phase in run.sub_phases],
    )
