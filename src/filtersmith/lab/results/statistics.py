"""What the runs of a comparison say about each method, with the uncertainty that the seeds leave.

Pure functions over the result document. Accuracies and their differences are fractions. Only finished runs
count, and methods are compared with the baseline of the same seed: both runs saw the same initial weights and
the same order of images, so the pair differs by less than two runs of different seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev

from filtersmith.lab.results.document import Comparison, Run
from filtersmith.methods import BASELINE

RESAMPLES = 9_999
WARM_UP_EPOCHS = 1
"""Epochs left out of the training time (caches, compilation), when three or more are there."""


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (n - 1) of one value a seed; `std` is None for a single seed."""

    mean: float
    std: float | None


@dataclass(frozen=True)
class Difference:
    """The paired differences of the seeds, in their order, and their mean; `low` and `high` bound the 95% interval.

    The bounds are None for a single pair.
    """

    mean: float
    low: float | None
    high: float | None
    values: tuple[float, ...]

    @property
    def pairs(self) -> int:
        """Seeds that both methods finished."""
        return len(self.values)


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
    """Training seconds of an epoch relative to the baseline's, paired by seed."""
    parameters_training: int | None
    parameters_deployed: int | None


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


def bootstrap_interval(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """95% percentile-bootstrap interval of the mean of two or more values, the same for the same seed."""
    import numpy as np
    from scipy.stats import bootstrap

    result = bootstrap(
        (np.asarray(values),),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=0.95,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def paired_difference(values: Sequence[float], baseline: Sequence[float]) -> Difference | None:
    """Difference of two lists in the same order of seeds; None when they are empty."""
    differences = [value - base for value, base in zip(values, baseline, strict=True)]
    if not differences:
        return None
    low, high = bootstrap_interval(differences) if len(differences) > 1 else (None, None)
    return Difference(fmean(differences), low, high, tuple(differences))


def summarize(comparison: Comparison) -> list[Summary]:
    """One summary a method, in the order of the comparison, failed methods included."""
    return [_summary(comparison, method) for method in comparison.methods]


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
    ratios = [epoch_seconds(run) / epoch_seconds(other) for run, other in pairs if epoch_seconds(other) > 0]
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
