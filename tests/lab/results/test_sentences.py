from __future__ import annotations

import pytest

from filtersmith.lab.results.sentences import detectable, evidence, p_value, pairs_said, sentence
from filtersmith.lab.results.statistics import Difference


def with_interval(low: float | None, high: float | None, mean: float = 0.0, pairs: int = 4) -> Difference:
    """In points. The words follow from the bounds alone."""
    bounds = (None if bound is None else bound / 100 for bound in (low, high))
    return Difference(mean / 100, *bounds, (mean / 100,) * pairs, p=0.25, p_holm=0.5, detectable=0.009)


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.4, 1.2, "better by 0.40 to 1.20 points"),
        (-1.2, -0.4, "worse by 0.40 to 1.20 points"),
        (-0.8, 0.3, "no difference larger than 0.80 either way"),
        (-0.3, 0.8, "no difference larger than 0.80 either way"),
        (0.0, 0.5, "no difference larger than 0.50 either way"),
        # What rounds to nothing:
        (0.001, 0.5, "better by at most 0.50 points"),
        (-0.5, -0.001, "worse by at most 0.50 points"),
        (0.001, 0.002, "better by less than 0.01 points"),
        (-0.001, 0.002, "no difference larger than 0.01 either way"),
        (0.501, 0.502, "better by 0.50 points"),
    ],
)
def test_the_interval_decides_the_words(low, high, words):
    assert sentence(with_interval(low, high)) == words
    assert sentence(with_interval(low, high, mean=9.0)) == words, "neither the mean nor p has a say"


@pytest.mark.parametrize(
    ("mean", "words"),
    [
        (0.0, "the same in every seed"),
        (0.28, "+0.28 points in every seed: no interval without a spread"),
        (-0.28, "−0.28 points in every seed: no interval without a spread"),
    ],
)
def test_equal_differences_are_said_to_be_equal(mean, words):
    assert sentence(with_interval(None, None, mean, pairs=3)) == words
    assert sentence(with_interval(None, None, mean, pairs=2)) == "too few seeds to say"
    assert sentence(with_interval(None, None, mean, pairs=1)) == "too few seeds to say"


def test_the_evidence_says_p_the_pairs_and_what_so_many_would_show():
    found = with_interval(-0.8, 0.3)
    assert evidence(found, 4) == "p 0.25, Holm 0.50; 4 pairs; these seeds would show 0.90"
    assert evidence(found, 5) == "p 0.25, Holm 0.50; 4 of 5 pairs; these seeds would show 0.90"
    assert evidence(Difference(0.1, None, None, (0.1,)), 1) == "1 pair"
    equal = Difference(0.1, None, None, (0.1,) * 3, p=0.25, p_holm=0.25)
    assert evidence(equal, 3) == "p 0.25, Holm 0.25; 3 pairs"


def test_figures_never_round_to_a_certainty():
    assert [p_value(p) for p in (1.0, 0.1, 0.0996, 0.0004)] == ["1.00", "0.10", "0.100", "<0.001"]
    assert [detectable(value) for value in (0.009, 0.00001)] == ["0.90", "0.01"]
    assert pairs_said(with_interval(0, 1, pairs=2), 3) == "2 of 3 pairs"
