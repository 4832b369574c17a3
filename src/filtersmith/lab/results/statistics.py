"""What the runs of a comparison say about each method, with the uncertainty that the seeds leave.

Pure functions over the result document. Accuracies and their differences are fractions. Only finished runs
count, and methods are compared with the baseline of the same seed: both runs saw the same initial weights and
the same order of images, so the pair differs by less than two runs of different seeds.

The 95% interval of a difference is the paired t interval, from three pairs on. How often it covers the true
difference, simulated with 3, 5 and 10 pairs:

- normal differences: 95%;
- two runs that are skewed alike (exponential), so that their difference is symmetric: 96 to 97%;
- normal differences in whole test images, with a spread of half an image or more: 94 to 100%;
- skewed differences: 93 to 94% (Gumbel), 88 to 90% (exponential), 82 to 84% (lognormal).

So a method that helps most seeds a little and a few seeds a lot needs more seeds than the interval says. Pairs that
all differ by the same amount have no interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from statistics import fmean, median, stdev
from typing import TYPE_CHECKING, Literal

from filtersmith.lab.results.document import Comparison, Run
from filtersmith.methods import BASELINE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

ENOUGH_PAIRS = 3
"""Pairs from which an interval is given: that of two is so wide that it says nothing."""
LEVEL, POWER = 0.95, 0.80
EXACT_PAIRS = 15
"""Pairs up to which every assignment of signs is tried; above, `DRAWN` of them."""
DRAWN = 99_999
SAME = 1e-9
"""Differences closer than this are equal: one test image is more, what floating point leaves is less."""
WARM_UP_EPOCHS = 1
"""Epochs left out of the training time (caches, compilation), when three or more are there."""


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (n - 1) of one value a seed; `std` is None for a single seed."""

    mean: float
    std: float | None


@dataclass(frozen=True)
class Difference:
    """The paired differences of the seeds, in their order, and what they say of the true one.

    With fewer than three pairs only `mean` and `values` are there; without any spread neither bounds nor
    `detectable` can be known.
    """

    mean: float
    low: float | None
    """`low` and `high`: the 95% interval of the true difference, from the paired t test."""
    high: float | None
    values: tuple[float, ...]
    p: float | None = None
    """Two-sided sign-flip permutation p."""
    p_holm: float | None = None
    """`p` after Holm's correction over the methods of the comparison."""
    detectable: float | None = None
    """The smallest true difference that so many pairs would show with 80% power (two-sided paired t test, 5%)."""

    @property
    def pairs(self) -> int:
        """Seeds that both methods finished."""
        return len(self.values)

    @property
    def equal(self) -> bool:
        """Whether all seeds differ by the same amount, so that they say nothing about their spread."""
        return max(self.values) - min(self.values) <= SAME


Status = Literal["finished", "incomplete", "failed", "interrupted", "not run"]


@dataclass(frozen=True)
class Summary:
    """One method of a comparison. Figures are None when no finished run supports them."""

    method: str
    asked: int
    """Seeds that the comparison asks for."""
    finished: tuple[Run, ...]
    failed: tuple[Run, ...]
    interrupted: tuple[Run, ...]
    last: Spread | None
    """Test accuracy after the last epoch: the main figure."""
    best: Spread | None
    """Best test epoch of each run: the test set chose the epoch, so it flatters every method."""
    difference: Difference | None
    """Last-epoch accuracy minus the baseline's, paired by seed; None for the baseline itself."""
    time_ratio: float | None
    """Training seconds of an epoch relative to the baseline's, paired by seed; None also where times mean nothing."""
    parameters_training: int | None
    parameters_deployed: int | None

    @property
    def status(self) -> Status:
        """`finished`: every seed; `incomplete`: some; otherwise the worst that happened to any."""
        if self.finished:
            return "finished" if len(self.finished) == self.asked else "incomplete"
        return "failed" if self.failed else "interrupted" if self.interrupted else "not run"


def last_accuracy(run: Run) -> float:
    """Test accuracy after the last epoch of a finished run."""
    return run.epochs[-1].test_accuracy


def best_accuracy(run: Run) -> float:
    """Highest test accuracy of any epoch of a finished run."""
    return max(epoch.test_accuracy for epoch in run.epochs)


def epoch_seconds(run: Run) -> float:
    """Median training seconds of an epoch, without the first one when there are three or more."""
    seconds = [epoch.train_seconds for epoch in run.epochs]
    return median(seconds[WARM_UP_EPOCHS:] if len(seconds) >= 3 else seconds)


def spread(values: Sequence[float]) -> Spread | None:
    """Mean and sample standard deviation, or None without values."""
    if not values:
        return None
    return Spread(fmean(values), stdev(values) if len(values) > 1 else None)


def t_interval(differences: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bounds of the 95% t interval of the mean of each row; NaN where the values of a row are equal.

    Equal values tell nothing about the spread; an interval of no width would claim to know it.
    """
    import numpy as np
    from scipy.special import stdtrit

    values = np.asarray(differences, dtype=float)
    pairs = values.shape[-1]
    width = stdtrit(pairs - 1, (1 + LEVEL) / 2) * values.std(axis=-1, ddof=1) / pairs**0.5
    width = np.where(np.ptp(values, axis=-1) <= SAME, np.nan, width)
    mean = values.mean(axis=-1)
    return mean - width, mean + width


def sign_flip_p(differences: Sequence[float]) -> float:
    """Two-sided p of the mean if the sign of every difference were a coin toss: exact up to 15 pairs.

    Above, the signs are drawn, the same ones each time. The signs that were seen count, so that p is never 0.
    `scipy.stats.permutation_test` gives the same, twenty times slower at 15 pairs.
    """
    import numpy as np

    values = np.asarray(differences, dtype=float)
    sums = np.abs(_signs(len(values)) @ values)
    return float(np.mean(sums >= sums[0] - SAME))  # the first row flips nothing


@lru_cache(maxsize=2)
def _signs(pairs: int) -> NDArray[np.float64]:
    """The signs of `sign_flip_p`, one draw a row; kept, as all rows of a table have as many pairs."""
    import numpy as np

    if pairs <= EXACT_PAIRS:
        flips = np.arange(2**pairs)[:, None] >> np.arange(pairs) & 1
    else:
        flips = np.random.default_rng(0).integers(0, 2, (DRAWN, pairs))
        flips = np.vstack([np.zeros(pairs, dtype=flips.dtype), flips])
    return np.asarray(1 - 2 * flips, dtype=float)


@cache
def holm(*p_values: float) -> tuple[float, ...]:
    """Holm's correction of the p values of one family, in their order."""
    if len(p_values) < 2:
        return p_values
    # It takes over a second to import, and collects garbage at every call.
    from statsmodels.stats.multitest import multipletests

    return tuple(map(float, multipletests(p_values, method="holm")[1]))


@cache
def detectable_effect(pairs: int) -> float:
    """The smallest mean, in standard deviations, that the two-sided paired t test finds with 80% power.

    The other tail of the noncentral t distribution, below 1e-6 there, is left out.
    """
    from scipy.special import nctdtrinc, stdtrit

    critical = stdtrit(pairs - 1, (1 + LEVEL) / 2)
    return float(nctdtrinc(pairs - 1, 1 - POWER, critical)) / float(pairs**0.5)


def paired_difference(values: Sequence[float], baseline: Sequence[float]) -> Difference | None:
    """Difference of two lists in the same order of seeds, not yet corrected by Holm; None when they are empty."""
    differences = tuple(value - base for value, base in zip(values, baseline, strict=True))
    if not differences:
        return None
    seen = Difference(fmean(differences), None, None, differences)
    if seen.pairs < ENOUGH_PAIRS:
        return seen
    seen = replace(seen, p=sign_flip_p(differences))
    if seen.equal:
        return seen
    low, high = map(float, t_interval(differences))
    return replace(seen, low=low, high=high, detectable=detectable_effect(seen.pairs) * stdev(differences))


def summarize(comparison: Comparison) -> list[Summary]:
    """One summary a method, in the order of the comparison, failed methods included."""
    summaries = [_summary(comparison, method) for method in comparison.methods]
    found = {one.method: one.difference.p for one in summaries if one.difference}
    tested = {method: p for method, p in found.items() if p is not None}
    corrected = dict(zip(tested, holm(*tested.values()), strict=True))
    return [
        replace(one, difference=one.difference and replace(one.difference, p_holm=corrected.get(one.method)))
        for one in summaries
    ]


def finished_runs(comparison: Comparison, method: str) -> dict[int, Run]:
    """The finished runs of a method by seed, in the order of the comparison's seeds."""
    runs = ((seed, comparison.find_run(method, seed)) for seed in comparison.seeds)
    return {seed: run for seed, run in runs if run is not None and run.status == "finished"}


def _summary(comparison: Comparison, method: str) -> Summary:
    mine = finished_runs(comparison, method)
    base = finished_runs(comparison, BASELINE)
    pairs = [(run, base[seed]) for seed, run in mine.items() if seed in base]
    every = [run for run in comparison.runs if run.method == method]
    # A run that was cut off may not have pruned yet what it would have deployed.
    sized = next((run for run in (*mine.values(), *every) if run.parameters_training is not None), None)
    timed = pairs if comparison.times_count else []
    ratios = [epoch_seconds(run) / epoch_seconds(other) for run, other in timed if epoch_seconds(other) > 0]
    return Summary(
        method=method,
        asked=len(comparison.seeds),
        finished=tuple(mine.values()),
        failed=tuple(run for run in every if run.status == "failed"),
        interrupted=tuple(run for run in every if run.status == "interrupted"),
        last=spread([last_accuracy(run) for run in mine.values()]),
        best=spread([best_accuracy(run) for run in mine.values()]),
        difference=None
        if method == BASELINE
        else paired_difference(
            [last_accuracy(run) for run, _ in pairs], [last_accuracy(other) for _, other in pairs]
        ),
        time_ratio=median(ratios) if ratios else None,
        parameters_training=sized.parameters_training if sized else None,
        parameters_deployed=sized.parameters_deployed if sized else None,
    )
