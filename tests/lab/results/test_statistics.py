from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from reference.example_results import by_method, compared, everything, run
from scipy.stats import norm, permutation_test, ttest_rel
from statsmodels.stats.power import TTestPower

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
    half = 4.302652730 * 0.01 / math.sqrt(3)  # the t table: 97.5%, 2 degrees of freedom
    assert (wau.difference.low, wau.difference.high) == pytest.approx((0.02 - half, 0.02 + half))
    assert base.difference is None
    assert base.last is not None
    assert base.best is not None
    assert (base.last.mean, base.best.mean) == pytest.approx((0.91, 0.95))


# --- intervals -------------------------------------------------------------------------------------------

DRAWS = 20_000
Draw = Callable[[np.random.Generator, int], Any]


def normal(random: np.random.Generator, pairs: int) -> Any:
    return random.standard_normal((DRAWS, pairs))


def skewed_alike(random: np.random.Generator, pairs: int) -> Any:
    return random.exponential(size=(DRAWS, pairs)) - random.exponential(size=(DRAWS, pairs))


def whole_images(spread: float, place: float) -> tuple[Draw, float]:
    """Normal differences around `place`, rounded to whole images, and their true mean."""
    counts = np.arange(-30, 31)
    shares = norm.cdf((counts + 0.5 - place) / spread) - norm.cdf((counts - 0.5 - place) / spread)
    return lambda random, pairs: np.round(place + spread * normal(random, pairs)), float(counts @ shares)


def coverage(draw: Draw, truth: float, pairs: int) -> float:
    low, high = stats.t_interval(draw(np.random.default_rng(pairs), pairs))
    known = np.isfinite(low)
    return float(np.mean((low <= truth) & (truth <= high), where=known))


COVERED: list[tuple[str, int, int, list[tuple[Draw, float]]]] = [
    ("normal differences: {}", 95, 95, [(normal, 0.0)]),
    ("so that their difference is symmetric: {}", 96, 97, [(skewed_alike, 0.0)]),
    (
        "with a spread of half an image or more: {}",
        94,
        100,
        [whole_images(spread, place) for spread in (0.5, 1, 2) for place in (0, 0.1, 0.25, 0.5)],
    ),
    ("{} (Gumbel)", 93, 94, [(lambda random, pairs: random.gumbel(size=(DRAWS, pairs)), np.euler_gamma)]),
    ("{} (exponential)", 88, 90, [(lambda random, pairs: random.exponential(size=(DRAWS, pairs)), 1.0)]),
    ("{} (lognormal)", 82, 84, [(lambda random, pairs: random.lognormal(size=(DRAWS, pairs)), math.exp(0.5))]),
]


@pytest.mark.parametrize("pairs", [3, 5, 10])
@pytest.mark.parametrize(("said", "lowest", "highest", "drawn"), COVERED)
def test_the_interval_covers_the_truth_as_often_as_the_module_says(said, lowest, highest, drawn, pairs):
    figures = f"{lowest}%" if lowest == highest else f"{lowest} to {highest}%"
    assert said.format(figures) in " ".join((stats.__doc__ or "").split())
    for draw, truth in drawn:
        assert lowest - 0.5 <= 100 * coverage(draw, truth, pairs) <= highest + 0.5


def test_the_interval_agrees_with_scipys_paired_t_test():
    values, base = [0.911, 0.896, 0.92, 0.907], [0.9, 0.9, 0.91, 0.9]
    found = stats.paired_difference(values, base)
    expected = ttest_rel(values, base).confidence_interval(0.95)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(
    ("values", "base", "mean", "least_p"),
    [
        ([0.75] * 3, [0.5] * 3, 0.25, 0.25),
        ([0.3, 0.4, 0.9, 0.7], [0.2, 0.3, 0.8, 0.6], 0.1, 0.125),  # equal but for what floating point leaves
        ([0.3, 0.9, 0.7] * 4, [0.3, 0.9, 0.7] * 4, 0.0, 1.0),
    ],
)
def test_equal_differences_have_no_interval_of_no_width(values, base, mean, least_p):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = stats.paired_difference(values, base)
    assert found is not None
    assert found.equal
    assert found.mean == pytest.approx(mean, abs=1e-12)
    assert (found.low, found.high, found.detectable, found.p) == (None, None, None, least_p)


def test_one_image_in_one_seed_is_a_spread():
    found = stats.paired_difference([0.5, 0.5, 0.5 + 1e-6], [0.5] * 3)
    assert found is not None
    assert not found.equal
    assert found.low is not None
    assert found.low < 0


# --- p, Holm, power --------------------------------------------------------------------------------------


@pytest.mark.parametrize("pairs", [3, 6, 9])
def test_p_agrees_with_scipys_permutation_test(pairs):
    """In whole images, so that many assignments of signs have equal sums."""
    images = np.random.default_rng(pairs).integers(-3, 5, pairs)
    expected = permutation_test((images,), np.sum, permutation_type="samples", n_resamples=np.inf).pvalue
    assert stats.sign_flip_p(images / 360) == pytest.approx(expected)


def test_p_is_exact_up_to_fifteen_pairs_and_then_drawn_the_same_each_time():
    values = [0.01 * n for n in range(1, 16)]
    assert stats.sign_flip_p(values) == 2 / 2**15
    assert stats.sign_flip_p(values[:5]) == 2 / 2**5 > 0.05 > stats.sign_flip_p(values[:6])
    sixteen = [0.02, 0.01, -0.01, 0.0, 0.01, -0.02, 0.03, 0.01] * 2
    drawn = stats.sign_flip_p(sixteen)
    signs = 1 - 2 * (np.arange(2**16)[:, None] >> np.arange(16) & 1)
    sums = np.abs(signs @ np.array(sixteen))
    assert drawn == pytest.approx(np.mean(sums >= abs(sum(sixteen)) - 1e-9), abs=0.004)
    assert drawn == stats.sign_flip_p(sixteen)
    assert stats.sign_flip_p([0.01] * 40) == 1 / 100_000, "never 0"


def test_p_has_its_level_where_nothing_differs():
    draws = np.random.default_rng(0).standard_normal((2_000, 8))
    assert np.mean([stats.sign_flip_p(row) <= 0.05 for row in draws]) == pytest.approx(0.05, abs=0.015)


def test_holm_is_made_over_the_methods_that_have_a_p():
    base = [0.5, 0.5, 0.5, 0.5]
    all_up, mixed, few = [0.6, 0.61, 0.62, 0.63], [0.6, 0.4, 0.53, 0.5], [0.6, 0.6]
    summaries = stats.summarize(by_method({"baseline": base, "wau": mixed, "asa": all_up, "ema": few}))
    found = {one.method: one.difference for one in summaries if one.difference}
    assert list(found) == ["wau", "asa", "ema"]
    assert (found["asa"].p, found["asa"].p_holm) == (0.125, 0.25), "twice: of three methods one has two pairs only"
    assert found["wau"].p == found["wau"].p_holm
    assert (found["ema"].p, found["ema"].p_holm) == (None, None)


def test_holm_against_hand_computed_figures():
    assert stats.holm(0.01, 0.04, 0.03) == pytest.approx((0.03, 0.06, 0.06))
    assert stats.holm(0.6, 0.7) == (1.0, 1.0)
    assert (stats.holm(0.04), stats.holm()) == ((0.04,), ())


@pytest.mark.parametrize("pairs", [3, 5, 10, 20])
def test_what_so_many_pairs_would_show_is_found_four_times_of_five(pairs):
    effect = stats.detectable_effect(pairs)
    assert effect == pytest.approx(TTestPower().solve_power(nobs=pairs, alpha=0.05, power=0.8), rel=1e-5)
    low, high = stats.t_interval(effect + normal(np.random.default_rng(0), pairs))
    assert np.mean((low > 0) | (high < 0)) == pytest.approx(0.8, abs=0.01)


def test_the_detectable_difference_is_at_the_spread_that_was_seen():
    found = stats.paired_difference([0.51, 0.53, 0.55, 0.55, 0.56], [0.5] * 5)
    assert found is not None
    assert found.detectable == pytest.approx(1.681997298 * math.sqrt(0.0016 / 4), rel=1e-6)


def test_two_pairs_have_their_points_and_no_interval():
    found = stats.paired_difference([0.75, 0.5], [0.5, 0.5])
    assert found == stats.Difference(0.125, None, None, (0.25, 0.0))
    assert stats.paired_difference([], []) is None


# --- summaries -------------------------------------------------------------------------------------------


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
    statuses = [one.status for one in stats.summarize(comparison)]
    assert statuses == ["finished", "finished", "finished", "incomplete", "failed", "not run"]
    stopped = compared([run("wau", 0, [0.5], status="interrupted")])
    assert [one.status for one in stats.summarize(stopped)] == ["interrupted"]


def test_a_seed_that_the_baseline_lost_shifts_no_pair():
    runs = [run("baseline", 0, [], status="failed"), run("baseline", 1, [0.5]), run("baseline", 2, [0.25])]
    runs += [run("wau", seed, [value]) for seed, value in enumerate([0.75, 0.5, 0.75])]
    _, wau = stats.summarize(compared(runs))
    assert len(wau.finished) == 3
    assert wau.difference is not None
    assert (wau.difference.mean, wau.difference.values) == (0.25, (0.0, 0.5))
    assert (wau.difference.pairs, wau.asked, wau.status) == (2, 3, "finished")


def test_time_is_paired_by_seed_and_leaves_the_warm_up_epoch_out():
    accuracies = [0.5, 0.5, 0.5, 0.5]
    base = [run("baseline", s, accuracies, [90.0, scale, scale, scale]) for s, scale in enumerate([1.0, 2.0, 4.0])]
    wau = [run("wau", s, accuracies, [50.0, 3.0, 3.0, 30.0]) for s in range(3)]
    timed = compared([*base, *wau], times_measured_alone=True)
    assert [summary.time_ratio for summary in stats.summarize(timed)] == [1.0, 1.5]  # the median of 3/1, 3/2 and 3/4
    assert [summary.time_ratio for summary in stats.summarize(compared([*base, *wau]))] == [None, None]
    assert stats.epoch_seconds(run("wau", 0, [0.5, 0.5], [3.0, 1.0])) == 2.0  # too few epochs to drop one


def test_without_a_baseline_there_is_nothing_to_compare_with():
    (wau,) = stats.summarize(by_method({"wau": [0.5, 0.6]}))
    assert (wau.difference, wau.time_ratio) == (None, None)
    assert wau.last is not None
