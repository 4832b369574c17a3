from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
from reference.example_results import by_method, compared, everything, run

from filtersmith.lab.results import statistics as stats


def test_last_epoch_best_epoch_and_difference_against_hand_computed_figures():
    runs = [run("baseline", s, [0.95, value]) for s, value in enumerate([0.90, 0.91, 0.92])]
    # Written in another order of seeds: pairs are made by seed, not by place.
    runs += [run("wau", s, [0.5, value]) for s, value in [(2, 0.95), (0, 0.92), (1, 0.92)]]
    base, wau = stats.summarize(compared(runs))

    assert wau.last is not None
    assert wau.last.mean == pytest.approx(0.93)
    assert wau.last.std == pytest.approx(math.sqrt((0.01**2 + 0.01**2 + 0.02**2) / 2))
    assert wau.difference is not None
    assert wau.difference.mean == pytest.approx(0.02)
    assert (wau.difference.low, wau.difference.high) == pytest.approx((0.01, 0.03))  # 3 seeds: lowest, highest
    assert base.difference is None
    assert base.last is not None
    assert base.best is not None
    assert (base.last.mean, base.best.mean) == pytest.approx((0.91, 0.95))


def test_the_interval_agrees_with_all_possible_resamples():
    values = [0.011, -0.004, 0.020, 0.007, 0.001]
    every = [np.mean(sample) for sample in itertools.product(values, repeat=len(values))]
    low, high = stats.bootstrap_interval(values)
    assert (low, high) == pytest.approx(np.quantile(every, [0.025, 0.975]), abs=4e-4)
    assert stats.bootstrap_interval(values) == (low, high)  # seeded: a second run prints the same


@pytest.mark.parametrize("count", [2, 3, 10])
def test_equal_differences_give_an_interval_of_no_width_and_no_warning(count):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = stats.paired_difference([0.75] * count, [0.5] * count)
        nearly = stats.paired_difference([0.1 + 0.2] * count, [0.1 * s for s in range(count)])
    assert found == stats.Difference(0.25, 0.25, 0.25, (0.25,) * count)
    assert nearly is not None
    assert all(math.isfinite(value) for value in (nearly.mean, nearly.low, nearly.high) if value is not None)


def test_one_seed_has_neither_deviation_nor_interval():
    _, wau = stats.summarize(by_method({"baseline": [0.5], "wau": [0.75]}))
    assert wau.last == stats.Spread(0.75, None)
    assert wau.difference == stats.Difference(0.25, None, None, (0.25,))


def test_only_finished_runs_count_and_only_pairs_are_compared():
    comparison = everything()
    asa, repr_, never = stats.summarize(comparison)[3:]
    assert (len(asa.finished), len(asa.failed), asa.asked) == (2, 1, 3)
    assert asa.last is not None
    assert asa.last.mean == pytest.approx(0.97)
    assert asa.difference is not None
    assert asa.difference.pairs == 2
    assert asa.difference.mean == pytest.approx(0.97 - (0.90 + 0.91) / 2)
    assert (repr_.last, repr_.best, repr_.difference, repr_.time_ratio) == (None, None, None, None)
    assert repr_.parameters_training == 19_584  # known, although no run finished
    assert (len(repr_.failed), len(repr_.interrupted)) == (2, 1)
    assert (never.last, never.failed, never.parameters_training) == (None, (), None)


def test_a_seed_that_the_baseline_lost_shifts_no_pair():
    runs = [run("baseline", 0, [], status="failed"), run("baseline", 1, [0.5]), run("baseline", 2, [0.25])]
    runs += [run("wau", seed, [value]) for seed, value in enumerate([0.75, 0.5, 0.75])]
    _, wau = stats.summarize(compared(runs))
    assert len(wau.finished) == 3
    assert wau.difference is not None
    assert (wau.difference.mean, wau.difference.values) == (0.25, (0.0, 0.5))
    assert (wau.difference.low, wau.difference.high) == (0.0, 0.5)


def test_time_is_paired_by_seed_and_leaves_the_warm_up_epoch_out():
    accuracies = [0.5, 0.5, 0.5, 0.5]
    base = [run("baseline", s, accuracies, [90.0, scale, scale, scale]) for s, scale in enumerate([1.0, 2.0, 4.0])]
    wau = [run("wau", s, accuracies, [50.0, 3.0, 3.0, 30.0]) for s in range(3)]
    ratios = [summary.time_ratio for summary in stats.summarize(compared([*base, *wau]))]
    assert ratios == [1.0, 1.5]  # the median of 3/1, 3/2 and 3/4
    assert stats.epoch_seconds(run("wau", 0, [0.5, 0.5], [3.0, 1.0])) == 2.0  # too few epochs to drop one


def test_without_a_baseline_there_is_nothing_to_compare_with():
    (wau,) = stats.summarize(by_method({"wau": [0.5, 0.6]}))
    assert (wau.difference, wau.time_ratio) == (None, None)
    assert wau.last is not None
