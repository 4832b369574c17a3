"""What can be concluded and what cannot: only what the intervals and Holm's p allow."""

from __future__ import annotations

import doctest
from collections.abc import Mapping, Sequence

import pytest
from reference.example_results import by_method, compared, everything, run

from filtersmith.lab.results import conclusions
from filtersmith.lab.results.conclusions import Conclusions, conclude
from filtersmith.lab.results.document import Comparison
from filtersmith.lab.results.statistics import Difference, summarize

SEEDS = 8
SCOPE = "What other data, networks or recipes would give: this was digits, vanilla, 1 epoch."
BEST = "Which method is best: each is compared with the baseline, not with the others. "


def concluded(comparison: Comparison) -> Conclusions:
    return conclude(comparison, summarize(comparison))


def shifted(shifts: Mapping[str, Sequence[float]], seeds: int = SEEDS) -> Comparison:
    """Methods that differ from the baseline by so many points, in turn of the seeds."""
    base = [0.8 + 0.01 * seed for seed in range(seeds)]
    methods = {m: [b + by[s % len(by)] / 100 for s, b in enumerate(base)] for m, by in shifts.items()}
    return by_method({"baseline": base, **methods})


def test_one_method_that_is_surely_better() -> None:
    found = concluded(shifted({"kflo": [1, 2]}))
    assert found.can == ("Better than the baseline: kflo by 1.05 to 1.95 points.", "p is below 0.05 for it.")
    assert found.cannot == (SCOPE,)


def test_better_worse_and_within_a_bound_each_have_a_sentence() -> None:
    found = concluded(shifted({"wau": [-0.5, 0.5], "kflo": [1, 2], "asa": [-2, -3]}))
    assert found.can == (
        "Better than the baseline: kflo by 1.05 to 1.95 points.",
        "Worse than the baseline: asa by 2.05 to 2.95 points.",
        "p, corrected for 3 methods (Holm), is below 0.05 for each of them.",
        "No difference beyond these 95% intervals, points: wau −0.45 to +0.45.",
    )
    assert found.cannot == (
        "Whether wau helps or harms by less than these seeds would show (0.62 points).",
        BEST + SCOPE,
    )


def test_an_interval_that_leaves_out_0_is_not_enough_where_few_seeds_can_be_chance() -> None:
    found = concluded(shifted({"kflo": [1, 2, 1.5], "asa": [-1, -2, -1.5]}, seeds=3))
    assert found.can == ("Nothing yet.",)
    assert found.cannot[0] == "Whether kflo and asa differ at all: it may be chance (Holm's p 0.50)."


def test_what_has_no_interval_is_never_concluded() -> None:
    few = concluded(by_method({"baseline": [0.5, 0.6], "wau": [0.6, 0.7]}))
    assert few.can == ("Nothing yet.",)
    assert few.cannot == ("Anything about wau: fewer than 3 seeds in common with the baseline.", SCOPE)
    same = concluded(shifted({"wau": [1]}))
    assert same.can == ("Nothing yet.",)
    assert same.cannot[0] == "How sure wau is: every seed differs by the same amount."
    failed = concluded(compared([run("baseline", 0, [0.5]), run("wau", 1, [0.5])]))
    assert failed.cannot[0] == "Anything about wau: no seed in common with a finished baseline."


def test_methods_that_failed_are_named_and_many_are_counted() -> None:
    found = concluded(everything())
    assert (
        "Anything about repr(s1=20) and <i>odd</i>|name: no seed in common with a finished baseline." in found.cannot
    )
    many = concluded(shifted({f"wau(rate=0.{i})": [-1, 1 + i / 10] for i in range(1, 8)}))
    assert [part.partition(" −")[0] for part in many.can[-1].partition(": ")[2].split(", ")] == [
        *(f"wau(rate=0.{i})" for i in (1, 2, 3)),
        "wau(rate=0.4)",
    ], "the narrowest first"
    assert many.can[-1].endswith(" and 3 more.")


def test_every_method_has_an_interval_of_its_own() -> None:
    found = concluded(shifted({"kd": [-5, 5], "repr": [-60, 10]}))
    assert found.can == (
        "No difference beyond these 95% intervals, points: kd −4.47 to +4.47 and repr −56.28 to +6.28.",
    )


@pytest.mark.parametrize(("low", "high", "p", "kind"), [
    (0.01, 0.02, 0.01, "better"),
    (-0.02, -0.01, 0.01, "worse"),
    (0.01, 0.02, 0.05, "doubtful"),
    (0.01, 0.02, None, "doubtful"),
    (0.0, 0.02, 0.01, "open"),
    (None, None, 0.01, "no interval"),
])  # fmt: skip
def test_what_may_be_said(low: float | None, high: float | None, p: float | None, kind: str) -> None:
    assert conclusions.kind(Difference(0.0, low, high, (0.0,) * 6, p=p, p_holm=p)) == kind


def test_the_examples_in_the_docstrings() -> None:
    results = doctest.testmod(conclusions)
    assert (results.failed, results.attempted > 0) == (0, True)
