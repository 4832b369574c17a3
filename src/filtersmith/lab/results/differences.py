"""The differences to the baseline as a figure: a line for each method with its interval, its mean and every seed.

Places are percent of the figure's width. The page draws them as SVG of its own width, so that text keeps its size on
a phone and on a wide screen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal, get_args

from filtersmith.common.words import noun, plural
from filtersmith.lab.results.numbers import percent, points
from filtersmith.lab.results.picture import Cell, Picture, as_csv
from filtersmith.lab.results.sentences import evidence, sentence
from filtersmith.lab.results.statistics import Difference, Summary
from filtersmith.methods import BASELINE

CAPTION = "Difference to the baseline, percentage points"
EDGE = 5.0
"""Percent of the width left of the lowest tick and right of the highest."""
NEAR = 2.4
"""Percent of the width below which two points would cover each other: 8 pixels on a phone."""
LANE, MOST_HEIGHT, LEAST_HEIGHT = 7.5, 60.0, 30.0
"""Pixels: between two lanes of points, of all lanes of a line, of a line."""
FAR = 6
"""So many times as far as the median method reaches, a method does not stretch the axis any more."""
FEW = 3
"""Seeds up to which the description of a line lists every one."""

Verdict = Literal["better", "worse", "open"]


@dataclass(frozen=True)
class Dot:
    """One seed: its place, and how many pixels below the middle of the line it is drawn."""

    x: float
    y: float


@dataclass(frozen=True)
class Line:
    """One method. `mean`, `interval` and `dots` lie on the axis; `left` and `right` say that something lies beyond.

    A method without a pair has nothing of it, and `words` says why. `evidence` stands beside the words; `description`
    is the drawing in words, for who cannot see it.
    """

    method: str
    words: str
    evidence: str
    description: str
    verdict: Verdict
    mean: float | None
    interval: tuple[float, float] | None
    dots: tuple[Dot, ...]
    left: bool
    right: bool
    height: float


@dataclass(frozen=True)
class Chart:
    """All lines over one axis; `ticks` are places with their labels in percentage points."""

    zero: float
    ticks: tuple[tuple[float, str], ...]
    baseline: str
    lines: tuple[Line, ...]
    picture: Picture

    @property
    def cut(self) -> bool:
        """Whether anything lies beyond the axis."""
        return any(line.left or line.right for line in self.lines)

    @property
    def means(self) -> bool:
        return any(line.mean is not None for line in self.lines)

    @property
    def intervals(self) -> bool:
        return any(line.interval for line in self.lines)


def difference_chart(summaries: Sequence[Summary]) -> Chart | None:
    """The figure of all methods in their order, or None where none has a seed in common with the baseline."""
    found = [summary.difference for summary in summaries if summary.difference]
    if not found:
        return None
    ticks = axis_ticks([reach(difference) for difference in found])
    axis = Axis(ticks[0], ticks[-1])
    base = next(summary.last for summary in summaries if summary.method == BASELINE)
    lines = tuple(_line(summary, axis) for summary in summaries if summary.method != BASELINE)
    return Chart(
        zero=axis.place(0),
        ticks=tuple((axis.place(tick), tick_label(tick, ticks[1] - ticks[0])) for tick in ticks),
        baseline=percent(base.mean) if base else "",
        lines=lines,
        picture=Picture(CAPTION, _counted(lines), differences_csv(summaries)),
    )


def differences_csv(summaries: Sequence[Summary]) -> str:
    """What the figure shows, in points: a row for each method, a column for each seed."""
    base = next(summary.finished for summary in summaries if summary.method == BASELINE)
    seeds = [run.seed for run in base]
    heads = ("method", "in words", "mean", "interval low", "interval high", "p", "p Holm", "detectable")
    rows: list[list[Cell]] = []
    for summary in summaries:
        if one := summary.difference:
            own = [run.seed for run in summary.finished if run.seed in seeds]  # in the order of the values
            values = dict(zip(own, one.values, strict=True))
            figures = [_in_points(value) for value in (one.mean, one.low, one.high)]
            shown = [one.p, one.p_holm, _in_points(one.detectable)]
            each = [_in_points(values.get(seed)) for seed in seeds]
            rows.append([summary.method, sentence(one), *figures, *shown, *each])
    return as_csv((*heads, *(f"seed {seed}" for seed in seeds)), rows)


def _in_points(fraction: float | None) -> float | None:
    return None if fraction is None else round(100 * fraction, 6)


def _counted(lines: Sequence[Line]) -> str:
    """The whole figure in one sentence."""
    counts = Counter(line.verdict for line in lines if line.dots or line.left or line.right)
    said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in get_args(Verdict))
    return f"{plural(sum(counts.values()), 'method')} against the baseline, by interval: {said}"


@dataclass(frozen=True)
class Axis:
    """From which to which difference (fractions) the figure shows."""

    low: float
    high: float

    def place(self, value: float) -> float:
        """Percent of the width.

        >>> Axis(-0.01, 0.01).place(0)
        50.0
        """
        return round(EDGE + (100 - 2 * EDGE) * (value - self.low) / (self.high - self.low), 3)

    def side(self, value: float) -> int:
        """-1 or 1 where the value lies beyond the lower or the upper end, otherwise 0."""
        room = 1e-9  # what floating point leaves
        return (value > self.high + room) - (value < self.low - room)


def reach(difference: Difference) -> tuple[float, float]:
    """Lowest and highest of a method's points and interval."""
    ends = [*difference.values, *(end for end in (difference.low, difference.high) if end is not None)]
    return min(ends), max(ends)


def axis_ticks(reaches: Sequence[tuple[float, float]]) -> list[float]:
    """Three to seven round differences around zero and all methods but those that reach very far.

    >>> axis_ticks([(-0.012, 0.003), (0.001, 0.008)])
    [-0.015, -0.01, -0.005, 0.0, 0.005, 0.01]
    """
    from matplotlib.ticker import MaxNLocator

    extents = [max(abs(low), abs(high)) for low, high in reaches]
    bound = FAR * median(extents) or max(extents)
    near = [ends for ends, extent in zip(reaches, extents, strict=True) if extent <= bound]
    low, high = min(0.0, *(ends[0] for ends in near)), max(0.0, *(ends[1] for ends in near))
    if low == high:
        low, high = -0.01, 0.01
    found = MaxNLocator(nbins=5, steps=[1, 2, 5, 10]).tick_values(100 * low, 100 * high)
    return [round(float(tick) / 100, 9) for tick in found]


def tick_label(value: float, step: float) -> str:
    """As short as the step allows: `−0.5`, `0`, `+10`.

    >>> tick_label(0.01, 0.005), tick_label(-0.1, 0.05), tick_label(0.0, 0.05)
    ('+1.0', '−10', '0')
    """
    if value == 0:
        return "0"
    for decimals, unneeded in ((0, len(".00")), (1, len("0"))):
        if abs(round(100 * step, decimals) - 100 * step) < 1e-6:
            return points(value)[:-unneeded]
    return points(value)


def _line(summary: Summary, axis: Axis) -> Line:
    difference = summary.difference
    if difference is None:
        words = "no seed in common with the baseline" if summary.finished else summary.status
        return Line(summary.method, words, "", "", "open", None, None, (), False, False, LEAST_HEIGHT)
    low, high = reach(difference)
    dots = stacked([axis.place(value) for value in difference.values if not axis.side(value)])
    interval = None
    if difference.low is not None and difference.high is not None:
        ends = (max(difference.low, axis.low), min(difference.high, axis.high))
        interval = (axis.place(ends[0]), axis.place(ends[1])) if ends[0] < ends[1] else None
    return Line(
        method=summary.method,
        words=sentence(difference),
        evidence=evidence(difference, summary.asked),
        description=describe(difference),
        verdict=_verdict(difference),
        # Of a single pair it is the point itself.
        mean=axis.place(difference.mean) if difference.pairs > 1 and not axis.side(difference.mean) else None,
        interval=interval,
        dots=dots,
        left=axis.side(low) < 0,
        right=axis.side(high) > 0,
        height=max(LEAST_HEIGHT, 2 * max((abs(dot.y) for dot in dots), default=0) + 2 * LANE),
    )


def _verdict(difference: Difference) -> Verdict:
    if difference.low is not None and difference.low > 0:
        return "better"
    return "worse" if difference.high is not None and difference.high < 0 else "open"


def stacked(places: Sequence[float]) -> tuple[Dot, ...]:
    """The points in the order of their places, moved off the middle of the line where they would cover each other.

    >>> [dot.y for dot in stacked([50.0, 50.0, 50.0])]
    [0.0, 7.5, -7.5]
    """
    last: list[float] = []  # of each lane: its rightmost point so far
    lanes = []
    for place in sorted(places):
        lane = next((number for number, before in enumerate(last) if place - before >= NEAR), len(last))
        last[lane : lane + 1] = [place]
        lanes.append(lane)
    apart = min(LANE, MOST_HEIGHT / max(len(last), 1))
    return tuple(
        Dot(place, round(apart * ((lane + 1) // 2) * (1 if lane % 2 else -1), 2) + 0.0)
        for place, lane in zip(sorted(places), lanes, strict=True)
    )


def describe(difference: Difference) -> str:
    """What a line shows."""
    seeds = len(difference.values)
    parts = [f"mean {points(difference.mean)} points"]
    if difference.low is not None and difference.high is not None:
        parts.append(f"95% interval {points(difference.low)} to {points(difference.high)}")
    if seeds <= FEW:
        parts.append(f"{noun(seeds, 'seed')} {', '.join(map(points, difference.values))}")
    else:
        parts.append(f"{seeds} seeds from {points(min(difference.values))} to {points(max(difference.values))}")
    return "; ".join(parts)
