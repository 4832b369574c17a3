"""What methods do to filters: overlap, rank, dead ones and correlation, of comparisons that recorded them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean

from filtersmith.lab.results.cells import NOTHING
from filtersmith.lab.results.document import Comparison, Epoch, Filters
from filtersmith.lab.results.numbers import MINUS
from filtersmith.lab.results.statistics import Difference, finished_runs, paired_difference
from filtersmith.methods import BASELINE

HEADS = (
    "Method",
    "Ortho-sum",
    "Δ sum [95% interval]",
    "Rank, %",
    "Δ rank [95% interval]",
    "|r|",
    "Δ |r| [95% interval]",
    "Dead",
)
LEGEND = (
    "Filters, after the last epoch. Ortho-sum: overlap |cosine| of each filter with those of its layer, summed "
    "(RePr's O_f). Rank: effective rank of the filter matrices, of the most that it can be. |r|: mean correlation of "
    "the maps of two filters of a layer on test images. Dead: filters that give the same whatever they read. Δ: "
    "minus the baseline of the same seed."
)
CURVES: tuple[tuple[str, Callable[[Filters], float | None]], ...] = (
    ("Ortho-sum: overlap of all filters", lambda one: one.ortho_sum),
    ("Effective rank, %", lambda one: None if one.rank is None else 100 * one.rank),
    ("Dead filters", lambda one: float(one.dead)),
)
"""Caption -> what is drawn over the epochs."""


@dataclass(frozen=True)
class _Column:
    value: Callable[[Filters], float | None]
    form: str


_COLUMNS = (
    _Column(lambda one: one.ortho_sum, ".2f"),
    _Column(lambda one: None if one.rank is None else 100 * one.rank, ".1f"),
    _Column(lambda one: one.correlation, ".3f"),
)


def audited(comparison: Comparison) -> bool:
    """Whether a finished run recorded what its filters did."""
    return any(run.status == "finished" and run.epochs[-1].filters is not None for run in comparison.runs)


def of_epoch(value: Callable[[Filters], float | None]) -> Callable[[Epoch], float | None]:
    """The value of an epoch; ``None`` where nothing was recorded."""
    return lambda epoch: None if epoch.filters is None else value(epoch.filters)


def rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """A row of cells for each method, in the order of `HEADS`; none where nothing was recorded."""
    return [_row(comparison, method) for method in comparison.methods] if audited(comparison) else []


def _row(comparison: Comparison, method: str) -> tuple[str, ...]:
    mine, base = _last(comparison, method), _last(comparison, BASELINE)
    cells = [method]
    for column in _COLUMNS:
        own = {seed: value for seed, one in mine.items() if (value := column.value(one)) is not None}
        theirs = {seed: value for seed, one in base.items() if (value := column.value(one)) is not None}
        cells.append(f"{fmean(own.values()):{column.form}}" if own else NOTHING)
        seeds = [seed for seed in own if seed in theirs] if method != BASELINE else []
        difference = paired_difference([own[seed] for seed in seeds], [theirs[seed] for seed in seeds])
        cells.append(_difference(difference, column.form))
    dead = [one.dead for one in mine.values()]
    every = next((one.filters for one in mine.values()), 0)
    cells.append(f"{fmean(dead):.3g} of {every:,}" if dead else NOTHING)
    return tuple(cells)


def _last(comparison: Comparison, method: str) -> dict[int, Filters]:
    found = {seed: run.epochs[-1].filters for seed, run in finished_runs(comparison, method).items()}
    return {seed: one for seed, one in found.items() if one is not None}


def _difference(value: Difference | None, form: str) -> str:
    if value is None:
        return NOTHING
    mean = _signed(value.mean, form)
    if value.low is not None and value.high is not None:
        return f"{mean} [{_signed(value.low, form)}, {_signed(value.high, form)}]"
    return f"{mean} ({', '.join(_signed(one, form) for one in value.values)})" if value.pairs == 2 else mean


def _signed(value: float, form: str) -> str:
    return f"{value:+{form}}".replace("-", MINUS)
