"""The figures of the report: curves by epoch, and accuracy against size.

Drawn with Matplotlib's `Figure` objects (no pyplot, no global state) as SVG. They keep a white ground in dark mode,
so that the colours stay the ones that were chosen to be told apart.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from filtersmith.lab.results.document import Comparison, Epoch
from filtersmith.lab.results.numbers import count, exact
from filtersmith.lab.results.statistics import finished_runs, last_accuracy, summarize
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
ZOOM_FROM = 8
"""Epochs from which a second accuracy figure shows the last half alone, where the methods differ least."""
MOST_TICKS = 6


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
class Curve:
    """Mean, lowest and highest value over the finished seeds of one method, by epoch."""

    method: str
    epochs: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    phase_starts: tuple[int, ...]
    sub_phases: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Point:
    """One method: parameters of the deployed network, and the last test accuracy over the finished seeds, percent."""

    method: str
    size: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Picture:
    """A figure as the source of an <img>, what it shows in a few words, and in more of them."""

    caption: str
    source: str
    alt: str


def method_styles(comparisons: Sequence[Comparison]) -> dict[str, Style]:
    """One style for every method, the same in all sections of the page."""
    methods = dict.fromkeys(m for comparison in comparisons for m in comparison.methods if m != BASELINE)
    styles = {BASELINE: Style(BASELINE_COLOUR, DASHES[0])}
    for index, method in enumerate(methods):
        cycle, colour = divmod(index, len(COLOURS))
        styles[method] = Style(COLOURS[colour], DASHES[cycle % len(DASHES)])
    return styles


# --- curves ----------------------------------------------------------------------------------------------


def curve_pictures(comparison: Comparison, styles: dict[str, Style]) -> list[Picture]:
    """Test accuracy, its last half where there are epochs enough, and training loss."""
    accuracy = curves(comparison, lambda epoch: 100 * epoch.test_accuracy)
    loss = curves(comparison, lambda epoch: epoch.train_loss)
    wanted = [("Test accuracy, %", accuracy, 1, ".2f")]
    if comparison.epochs >= ZOOM_FROM:
        wanted.append(("Test accuracy, %, last half", accuracy, comparison.epochs // 2 + 1, ".2f"))
    wanted.append(("Training loss", loss, 1, ".3g"))
    return [
        Picture(caption, _as_source(draw(lines, styles, first)), f"{caption} by epoch; {_ends(lines, form)}")
        for caption, lines, first, form in wanted
    ]


def _ends(curves: Sequence[Curve], form: str) -> str:
    known = [(curve.method, curve.mean[-1]) for curve in curves if not math.isnan(curve.mean[-1])]
    return "mean after the last epoch: " + (", ".join(f"{m} {mean:{form}}" for m, mean in known) or "not known")


def curves(comparison: Comparison, value: Callable[[Epoch], float | None]) -> list[Curve]:
    """The curves of the methods that have finished runs; a value that is None leaves a gap."""
    found = []
    for method in comparison.methods:
        runs = list(finished_runs(comparison, method).values())
        if not runs:
            continue
        gap = float("nan")
        columns = [[value(epoch) for epoch in same] for same in zip(*(run.epochs for run in runs), strict=True)]
        known = [[v for v in column if v is not None] for column in columns]
        curve = Curve(
            method=method,
            epochs=tuple(range(1, len(columns) + 1)),
            mean=tuple(sum(values) / len(values) if values else gap for values in known),
            low=tuple(min(values, default=gap) for values in known),
            high=tuple(max(values, default=gap) for values in known),
            phase_starts=tuple(sorted({start for run in runs for start in run.phase_starts})),
            sub_phases=tuple(sorted({phase for run in runs for phase in run.sub_phases})),
        )
        found.append(curve)
    return found


def draw(curves: Sequence[Curve], styles: dict[str, Style], first: int = 1) -> Figure:
    """A figure of the curves from epoch `first` on: the mean as a line, lowest to highest seed as a band."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = _empty()
    # Methods that share their phases share the shade.
    for start, stop in sorted({phase for curve in curves for phase in curve.sub_phases}):
        if stop >= first:
            axes.axvspan(max(start + 0.5, first), stop + 0.5, color="#000000", alpha=0.07, linewidth=0)
    for curve in curves:
        _draw_curve(axes, curve, styles[curve.method], first)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.02)
    return figure


def _draw_curve(axes: Axes, curve: Curve, style: Style, first: int) -> None:
    part = slice(first - 1, None)
    epochs = curve.epochs[part]
    axes.fill_between(epochs, curve.low[part], curve.high[part], color=style.colour, alpha=0.15, linewidth=0)
    marker = "o" if len(epochs) < 4 else None  # a line of one epoch has no length
    axes.plot(
        epochs,
        curve.mean[part],
        color=style.colour,
        linestyle=style.dash,
        linewidth=1.6,
        marker=marker,
        markersize=4,
    )
    for start in curve.phase_starts:
        if start >= first:
            # Between the last epoch of the old phase and the first of the new one.
            axes.axvline(start + 0.5, color=style.colour, linewidth=1, linestyle=(0, (2, 2)))
    for start, stop in curve.sub_phases:
        # Pruned after this epoch, restored after that one; where training ends before, for good.
        for epoch, marker in ((start, "v"), *([(stop, "^")] if stop < curve.epochs[-1] else [])):
            if first <= epoch <= curve.epochs[-1]:
                axes.plot(epoch, curve.mean[epoch - 1], color=style.colour, marker=marker, markersize=5)


# --- accuracy against size -------------------------------------------------------------------------------


def size_picture(comparison: Comparison, styles: dict[str, Style]) -> Picture | None:
    """Test accuracy against deployed parameters, or None where all methods deploy equally many."""
    if not (found := points(comparison)):
        return None
    caption = "Test accuracy, %, by deployed parameters"
    words = ", ".join(f"{p.method} {count(p.size)} {p.mean:.2f}%" for p in found)
    return Picture(caption, _as_source(draw_sizes(found, styles)), f"{caption}: {words}")


def points(comparison: Comparison) -> list[Point]:
    """The methods that have finished runs and whose size is known; none where all deploy equally many."""
    found = []
    for summary in summarize(comparison):
        values = [100 * last_accuracy(run) for run in summary.finished]
        if values and summary.parameters_deployed:
            point = Point(summary.method, summary.parameters_deployed, fmean(values), min(values), max(values))
            found.append(point)
    return found if len({point.size for point in found}) > 1 else []


def draw_sizes(points: Sequence[Point], styles: dict[str, Style]) -> Figure:
    """A figure of the points: the mean as a mark, lowest to highest seed as a bar, sizes on a logarithmic axis."""
    figure, axes = _empty()
    axes.set_xscale("log")
    for point in points:
        style = styles[point.method]
        axes.vlines(point.size, point.low, point.high, color=style.colour, linewidth=1.6)
        axes.plot(
            point.size,
            point.mean,
            color=style.colour,
            linestyle="none",
            marker=style.marker,
            markersize=7,
            markeredgecolor="w",
            label=point.method,
        )
    sizes = [point.size for point in points]
    low, high = min(sizes), max(sizes)
    room = (high / low) ** 0.06
    axes.set_xlim(low / room, high * room)
    ticks = size_ticks(low / room, high * room)
    axes.set_xticks(ticks, [exact(tick) for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.grid(axis="x", color="#eeeeee", linewidth=0.6)
    axes.set_xlabel("parameters of the deployed network")
    return figure


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


def _empty() -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.8, 2.8), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def svg(figure: Figure) -> bytes:
    """The figure as a file, the same bytes each time."""
    import matplotlib

    buffer = io.BytesIO()
    # Without a salt and a date the same figure would be another file each time.
    with matplotlib.rc_context({"svg.hashsalt": "filtersmith", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _as_source(figure: Figure) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg(figure)).decode("ascii")
