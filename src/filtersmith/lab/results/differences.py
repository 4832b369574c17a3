"""Differences as a figure: a line for each method or row with its interval, its mean and every seed.

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
class Compared:
    """What a line shows.

    Attributes:
        label: at its left.
        difference: drawn; ``None`` where there is no pair.
        words: at its right; without a difference, why there is none.
        evidence: stands beside the words.
        seeds: of the difference's values.
        published: the difference that a paper reports, a mark of its own.
    """

    label: str
    difference: Difference | None
    words: str
    evidence: str = ""
    seeds: Sequence[int] = ()
    published: float | None = None


@dataclass(frozen=True)
class Subject:
    """What a figure is about: its caption, how it is read, what a line is of, and what that is compared with."""

    caption: str
    lead: str
    of: str
    against: str


def of_methods(score: str) -> Subject:
    """What is said of methods and their scores."""
    lead = f"Test {score} after the last epoch, minus that of the baseline with the same seed"
    return Subject(CAPTION, f"{lead}: right of the line is better.", "method", "the baseline")


@dataclass(frozen=True)
class Dot:
    """One seed: its place, and how many pixels below the middle of the line it is drawn."""

    x: float
    y: float


@dataclass(frozen=True)
class Line:
    """One method or row. `mean`, `interval`, `dots` and `published` lie on the axis; `left` and `right` say that
    something lies beyond.

    One without a pair has nothing of it, and `words` says why. `evidence` stands beside the words; `description` is
    the drawing in words, for who cannot see it.
    """

    label: str
    words: str
    evidence: str
    description: str
    verdict: Verdict
    mean: float | None
    interval: tuple[float, float] | None
    dots: tuple[Dot, ...]
    published: float | None
    left: bool
    right: bool
    height: float


@dataclass(frozen=True)
class Chart:
    """All lines over one axis; `ticks` are places with their labels in percentage points.

    `baseline` is the accuracy of what all are compared with, in percent; empty where each has its own.
    """

    lead: str
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

    @property
    def published(self) -> bool:
        return any(line.published is not None for line in self.lines)


def difference_chart(summaries: Sequence[Summary], score: str) -> Chart | None:
    """The figure of all methods in their order, or None where none has a seed in common with the baseline."""
    base = next((summary for summary in summaries if summary.method == BASELINE), None)
    if base is None or base.last is None:
        return None
    seeds = [run.seed for run in base.finished]
    lines = [_compared(summary, seeds) for summary in summaries if summary.method != BASELINE]
    return chart_of(lines, of_methods(score), seeds, percent(base.last.mean))


def _compared(summary: Summary, seeds: Sequence[int]) -> Compared:
    if summary.difference is None:
        words = "no seed in common with the baseline" if summary.finished else summary.status
        return Compared(summary.method, None, words)
    difference = summary.difference
    own = [run.seed for run in summary.finished if run.seed in seeds]  # in the order of the values
    return Compared(summary.method, difference, sentence(difference), evidence(difference, summary.asked), own)


def chart_of(
    compared: Sequence[Compared], subject: Subject, seeds: Sequence[int], baseline: str = ""
) -> Chart | None:
    """The figure of all lines, or None where none has a difference; `seeds` are columns of its data."""
    reaches = [reach(one.difference, one.published) for one in compared if one.difference]
    if not reaches:
        return None
    ticks = axis_ticks(reaches)
    axis = Axis(ticks[0], ticks[-1])
    lines = tuple(_line(one, axis) for one in compared)
    return Chart(
        lead=subject.lead,
        zero=axis.place(0),
        ticks=tuple((axis.place(tick), tick_label(tick, ticks[1] - ticks[0])) for tick in ticks),
        baseline=baseline,
        lines=lines,
        picture=Picture(subject.caption, _counted(lines, compared, subject), as_data(compared, subject, seeds)),
    )


def as_data(compared: Sequence[Compared], subject: Subject, seeds: Sequence[int]) -> str:
    """What the figure shows as CSV, in points: a row for each line, a column for each seed."""
    published = any(one.published is not None for one in compared)
    heads = [subject.of, "in words", "mean", "interval low", "interval high", "p", "p Holm", "detectable"]
    rows: list[list[Cell]] = []
    for line in compared:
        if one := line.difference:
            values = dict(zip(line.seeds, one.values, strict=True))
            figures = [_in_points(value) for value in (one.mean, one.low, one.high)]
            shown = [one.p, one.p_holm, _in_points(one.detectable)]
            paper = [_in_points(line.published)] if published else []
            each = [_in_points(values.get(seed)) for seed in seeds]
            rows.append([line.label, line.words, *figures, *shown, *paper, *each])
    return as_csv([*heads, *(["paper"] if published else []), *(f"seed {seed}" for seed in seeds)], rows)


def _in_points(fraction: float | None) -> float | None:
    return None if fraction is None else round(100 * fraction, 6)


def _counted(lines: Sequence[Line], compared: Sequence[Compared], subject: Subject) -> str:
    """The whole figure in one sentence."""
    drawn = [line for line, one in zip(lines, compared, strict=True) if one.difference]
    counts = Counter(line.verdict for line in drawn)
    said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in get_args(Verdict))
    marked = sum(one.published is not None for one in compared)
    paper = f"; the paper's difference is marked in {plural(marked, 'line')}" if marked else ""
    return f"{plural(len(drawn), subject.of)} against {subject.against}, by interval: {said}{paper}"


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


def reach(difference: Difference, published: float | None = None) -> tuple[float, float]:
    """Lowest and highest of a line's points, interval and published difference."""
    others = (difference.low, difference.high, published)
    ends = [*difference.values, *(end for end in others if end is not None)]
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


def _line(one: Compared, axis: Axis) -> Line:
    difference, published = one.difference, one.published
    if difference is None:
        return Line(one.label, one.words, "", "", "open", None, None, (), None, False, False, LEAST_HEIGHT)
    low, high = reach(difference, published)
    dots = stacked([axis.place(value) for value in difference.values if not axis.side(value)])
    interval = None
    if difference.low is not None and difference.high is not None:
        ends = (max(difference.low, axis.low), min(difference.high, axis.high))
        interval = (axis.place(ends[0]), axis.place(ends[1])) if ends[0] < ends[1] else None
    return Line(
        label=one.label,
        words=one.words,
        evidence=one.evidence,
        description=describe(difference, published),
        verdict=_verdict(difference),
        # Of a single pair it is the point itself.
        mean=axis.place(difference.mean) if difference.pairs > 1 and not axis.side(difference.mean) else None,
        interval=interval,
        dots=dots,
        published=axis.place(published) if published is not None and not axis.side(published) else None,
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


def describe(difference: Difference, published: float | None = None) -> str:
    """What a line shows."""
    seeds = len(difference.values)
    parts = [f"mean {points(difference.mean)} points"]
    if difference.low is not None and difference.high is not None:
        parts.append(f"95% interval {points(difference.low)} to {points(difference.high)}")
    if seeds <= FEW:
        parts.append(f"{noun(seeds, 'seed')} {', '.join(map(points, difference.values))}")
    else:
        parts.append(f"{seeds} seeds from {points(min(difference.values))} to {points(max(difference.values))}")
    if published is not None:
        parts.append(f"paper {points(published)}")
    return "; ".join(parts)
