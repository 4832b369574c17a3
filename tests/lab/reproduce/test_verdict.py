"""The five verdicts, by their rule."""

from __future__ import annotations

import pytest

from filtersmith.lab.reproduce.verdict import RULE, same_data, verdict
from filtersmith.lab.results.statistics import Difference


def seen(low: float, high: float, pairs: int = 5) -> Difference:
    mean = (low + high) / 2
    return Difference(mean, low, high, (mean,) * pairs, detectable=(high - low))


@pytest.mark.parametrize(
    ("low", "high", "published", "word"),
    [
        (0.01, 0.03, 0.02, "agrees"),
        (0.01, 0.03, 0.01, "agrees"),
        (-0.03, -0.01, -0.02, "agrees"),
        (0.01, 0.03, 0.05, "direction holds"),
        (0.01, 0.03, 0.005, "direction holds"),
        (-0.03, -0.01, -0.05, "direction holds"),
        (0.01, 0.03, -0.02, "differs"),
        (-0.01, 0.01, 0.02, "differs"),
        (0.01, 0.03, 0.0, "differs"),
        (-0.01, 0.03, 0.02, "cannot tell"),
        (-0.01, 0.03, 0.0, "cannot tell"),
    ],
)
def test_by_the_interval_and_the_papers_difference(low: float, high: float, published: float, word: str) -> None:
    found = verdict(seen(low, high), published, same_data=True)
    assert found.word == word
    assert word in RULE
    assert str(verdict(seen(low, high), published, same_data=False)) == "not comparable (data)"


def test_what_few_seeds_say() -> None:
    assert str(verdict(None, 0.01, same_data=True)) == "cannot tell with 0 seeds (none has both runs yet)"
    one = Difference(0.01, None, None, (0.01,))
    assert str(verdict(one, 0.01, same_data=True)) == "cannot tell with 1 seed (an interval needs 3)"
    equal = Difference(0.01, None, None, (0.01,) * 4)
    assert str(verdict(equal, 0.01, same_data=True)) == "cannot tell with 4 seeds (all differ by the same)"
    wide = verdict(seen(-0.01, 0.03), 0.02, same_data=True)
    assert str(wide) == "cannot tell with 5 seeds (smallest visible difference 4.00)"


def test_a_copy_that_was_compressed_again_counts_for_differences() -> None:
    assert same_data("CIFAR-10", "CIFAR-10")
    assert same_data("CIFAR-10 (JPEG)", "CIFAR-10")
    assert not same_data("digits", "CIFAR-10")
    assert not same_data("CIFAR-10 (JPEG)", "CIFAR-100")
