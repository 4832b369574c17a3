"""Figures as the cells of a table: accuracies in percent, differences in percentage points."""

from __future__ import annotations

from filtersmith.lab.results.numbers import percent, points
from filtersmith.lab.results.sentences import p_value
from filtersmith.lab.results.statistics import Difference, Spread

NOTHING = "—"


def spread_cell(value: Spread | None) -> str:
    """Mean and standard deviation in percent: `79.31 ± 0.28`."""
    if value is None:
        return NOTHING
    return percent(value.mean) + (f" ± {percent(value.std)}" if value.std is not None else "")


def difference_cell(value: Difference | None) -> str:
    """The mean with its interval; of two pairs the mean with both in brackets: `+0.28 (−0.28, +0.83)`."""
    if value is None:
        return NOTHING
    if value.low is not None and value.high is not None:
        return f"{points(value.mean)} [{points(value.low)}, {points(value.high)}]"
    if value.pairs == 2:
        return f"{points(value.mean)} ({', '.join(map(points, value.values))})"
    return points(value.mean)


def p_cell(value: Difference | None) -> str:
    """The sign-flip p, and Holm's in brackets."""
    if value is None or value.p is None or value.p_holm is None:
        return NOTHING
    return f"{p_value(value.p)} ({p_value(value.p_holm)})"
