"""Numbers as people read them, at the borders between units."""

from __future__ import annotations

import doctest

import pytest

from filtersmith.lab.results import numbers


def test_the_examples_in_the_docstrings_hold() -> None:
    results = doctest.testmod(numbers)
    assert results.attempted >= 5
    assert results.failed == 0


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.00k"),
        (19_584, "19.6k"),
        (999_499, "999k"),
        (999_500, "1.00M"),
        (11_173_962, "11.2M"),
        (1_234_567_890, "1.23G"),
        (5_000_000_000_000_000, "5.00e+03T"),
    ],
)
def test_counts_have_three_digits(number: int, text: str) -> None:
    assert numbers.count(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(7, "7"), (200, "200"), (200_000, "200k"), (1_000_000, "1M"), (1_500_000, "1.5M"), (167_250, "167.25k")],
)
def test_ticks_are_short_and_exact(number: int, text: str) -> None:
    assert numbers.exact(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 kB"), (700, "1 kB"), (999_000, "999 kB"), (1_000_000, "1.0 MB"), (2 * 10**9, "2.0 GB")],
)
def test_sizes_have_a_unit_of_bytes(number: int, text: str) -> None:
    assert numbers.size(number) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0045, "+0.45"), (-0.0045, "\N{MINUS SIGN}0.45"), (-0.00001, "0.00"), (0.0, "0.00")]
)
def test_points_have_a_sign_unless_they_round_to_zero(value: float, text: str) -> None:
    assert numbers.points(value) == text
