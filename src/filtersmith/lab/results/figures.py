"""How the report draws: styles, an empty figure, and accuracy against what it costs (parameters, training time).

Drawn with Matplotlib's `Figure` objects (no pyplot, no global state) as SVG. They keep a white ground in dark mode,
so that the colours stay the ones that were chosen to be told apart.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import TYPE_CHECKING

from filtersmith.lab.results.document import Comparison, Run
from filtersmith.lab.results.numbers import count, exact
from filtersmith.lab.results.picture import Cell, Picture, as_csv
from filtersmith.lab.results.statistics import epoch_seconds, last_accuracy, summarize
from filtersmith.methods import BASELINE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette without its yellow, which is too faint on white; the baseline is always the same grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
BASELINE_COLOUR = "#333333"
DASHES = ("solid", "dashed", "dotted", "dashdot")
SVG_DASHES = {"solid": "none", "dashed": "7 4", "dotted": "2 3", "dashdot": "7 3 2 3"}
MARKERS = {"solid": "o", "dashed": "s", "dotted": "D", "dashdot": "P"}
SVG_MARKERS = {
    "solid": "M17 2a4 4 0 1 0 .01 0z",
    "dashed": "M13.5 2.5h7v7h-7z",
    "dotted": "M17 1.5l4.5 4.5l-4.5 4.5l-4.5-4.5z",
    "dashdot": "M15.5 1.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
}
"""Paths around the middle of a legend's entry, (17, 6)."""
MOST_TICKS = 6
UNITS = {"h": 3600, "min": 60, "s": 1}
"""Seconds in a unit of time."""


@dataclass(frozen=True)
class Style:
    """How a method is drawn, in the figures and in their legend."""

    colour: str
    dash: str

    @property
    def svg_dash(self) -> str:
        return SVG_DASHES[self.dash]

    @property
    def marker(self) -> str:
        return MARKERS[self.dash]

    @property
    def svg_marker(self) -> str:
        return SVG_MARKERS[self.dash]


@dataclass(frozen=True)
class Point:
    """One method: what it costs, and the last test accuracy over the finished seeds, percent."""

    method: str
    cost: float
    """Parameters of the deployed network, or seconds of training."""
    mean: float
    low: float
    high: float


def method_styles(comparisons: Sequence[Comparison]) -> dict[str, Style]:
    """One style for every method, the same in all sections of the page."""
    return styles_of([m for comparison in comparisons for m in comparison.methods])


def styles_of(names: Sequence[str]) -> dict[str, Style]:
    """A style for every name."""
    styles = {BASELINE: Style(BASELINE_COLOUR, DASHES[0])}
    for index, method in enumerate(dict.fromkeys(name for name in names if name != BASELINE)):
        cycle, colour = divmod(index, len(COLOURS))
        styles[method] = Style(COLOURS[colour], DASHES[cycle % len(DASHES)])
    return styles


# --- accuracy against cost -------------------------------------------------------------------------------


def size_picture(comparison: Comparison, styles: dict[str, Style]) -> Picture | None:
    """Test accuracy against deployed parameters, or None where all methods deploy equally many."""
    if not (found := points(comparison)):
        return None
    words = [count(int(point.cost)) for point in found]
    by = "deployed parameters", "parameters"
    return _picture(comparison.about.score, by, found, words, draw_sizes(found, styles))


def time_picture(comparison: Comparison, styles: dict[str, Style]) -> Picture | None:
    """Test accuracy against training time, or None where times mean nothing or there are fewer than two."""
    found = timed_points(comparison)
    if len(found) < 2:
        return None
    words = [in_unit(point.cost, time_unit(point.cost)) for point in found]
    return _picture(comparison.about.score, ("training time", "seconds"), found, words, draw_times(found, styles))


def _picture(
    score: str, by: tuple[str, str], points: Sequence[Point], costs: Sequence[str], figure: Figure
) -> Picture:
    caption = f"Test {score}, %, by {by[0]}"
    words = ", ".join(f"{point.method} {cost} {point.mean:.2f}%" for point, cost in zip(points, costs, strict=True))
    rows: list[list[Cell]] = [
        [p.method, round(p.cost, 3), *(round(v, 6) for v in (p.mean, p.low, p.high))] for p in points
    ]
    heads = ("method", by[1], f"mean {score}", "lowest seed", "highest seed")
    return Picture(caption, f"{caption}: {words}", as_csv(heads, rows), as_source(figure))


def points(comparison: Comparison) -> list[Point]:
    """The methods that have finished runs and whose size is known; none where all deploy equally many."""
    found = [
        _point(summary.method, summary.parameters_deployed, summary.finished)
        for summary in summarize(comparison)
        if summary.finished and summary.parameters_deployed
    ]
    return found if len({point.cost for point in found}) > 1 else []


def timed_points(comparison: Comparison) -> list[Point]:
    """The methods with the training time of a run: the median over the seeds that had the machine to themselves.

    A run's time is its epochs times the median seconds of one. None where the table shows no times.
    """
    if not comparison.times_count:
        return []
    found = []
    for summary in summarize(comparison):
        alone = [run for run in summary.finished if comparison.times_measured_alone or run.alone]
        if alone:
            seconds = median(len(run.epochs) * epoch_seconds(run) for run in alone)
            found.append(_point(summary.method, seconds, summary.finished))
    return found


def _point(method: str, cost: float, runs: Sequence[Run]) -> Point:
    values = [100 * last_accuracy(run) for run in runs]
    return Point(method, cost, fmean(values), min(values), max(values))


def draw_sizes(points: Sequence[Point], styles: dict[str, Style]) -> Figure:
    """A figure of the points, sizes on a logarithmic axis."""
    figure, axes = empty_figure()
    axes.set_xscale("log")
    _draw(axes, points, styles)
    sizes = [point.cost for point in points]
    low, high = min(sizes), max(sizes)
    room = (high / low) ** 0.06
    axes.set_xlim(low / room, high * room)
    ticks = size_ticks(low / room, high * room)
    axes.set_xticks(ticks, [exact(tick) for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("parameters of the deployed network")
    return figure


def draw_times(points: Sequence[Point], styles: dict[str, Style]) -> Figure:
    """A figure of the points, times on a linear axis."""
    unit = time_unit(max(point.cost for point in points))
    figure, axes = empty_figure()
    _draw(axes, [replace(point, cost=point.cost / UNITS[unit]) for point in points], styles)
    axes.margins(x=0.08)
    axes.set_xlabel(f"training time of a run, {unit}")
    return figure


def _draw(axes: Axes, points: Sequence[Point], styles: dict[str, Style]) -> None:
    """The mean as a mark, lowest to highest seed as a bar."""
    for point in points:
        style = styles[point.method]
        axes.vlines(point.cost, point.low, point.high, color=style.colour, linewidth=1.6)
        axes.plot(
            point.cost,
            point.mean,
            color=style.colour,
            linestyle="none",
            marker=style.marker,
            markersize=7,
            markeredgecolor="w",
            label=point.method,
        )
    axes.grid(axis="x", color="#eeeeee", linewidth=0.6)


def time_unit(seconds: float) -> str:
    """The largest unit of which there are two at least, otherwise seconds.

    >>> time_unit(100), time_unit(300), time_unit(9000)
    ('s', 'min', 'h')
    """
    return next((unit for unit, size in UNITS.items() if seconds >= 2 * size), "s")


def in_unit(seconds: float, unit: str) -> str:
    """Three digits.

    >>> in_unit(300, "min"), in_unit(0.51234, "s")
    ('5 min', '0.512 s')
    """
    return f"{seconds / UNITS[unit]:.3g} {unit}"


def size_ticks(low: float, high: float) -> list[int]:
    """Three to six round numbers from ``low`` to ``high`` for a logarithmic axis.

    >>> size_ticks(150_000, 12_000_000)
    [200000, 500000, 1000000, 2000000, 5000000, 10000000]
    """
    from matplotlib.ticker import MaxNLocator

    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [step * 10**decade for decade in decades for step in steps if low <= step * 10**decade <= high]
        if len(ticks) <= MOST_TICKS:
            break
    else:
        ticks = ticks[:: math.ceil(len(ticks) / MOST_TICKS)]
    if len(ticks) < 3:  # so near to each other that a logarithm is almost a straight line
        round_numbers = MaxNLocator(nbins=4, integer=True).tick_values(low, high)
        ticks = sorted({int(number) for number in round_numbers if low <= int(number) <= high})
    return ticks


# --- both ------------------------------------------------------------------------------------------------


def empty_figure() -> tuple[Figure, Axes]:
    """A small figure with light lines behind what is drawn."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.8, 2.8), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def plain_text(text: str) -> str:
    """A name of somebody's, in which nothing is mathematics for Matplotlib."""
    return text.replace("$", r"\$")


def svg(figure: Figure) -> bytes:
    """The figure as a file, the same bytes each time."""
    import matplotlib

    buffer = io.BytesIO()
    # Without a salt and a date the same figure would be another file each time.
    with matplotlib.rc_context({"svg.hashsalt": "filtersmith", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def as_source(figure: Figure) -> str:
    """The figure as the source of an <img>."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg(figure)).decode("ascii")
