"""Warnings about schedules."""

from __future__ import annotations

import doctest

import pytest

from filtersmith.common.phases import Phase, cycle_phases
from filtersmith.methods import advice
from filtersmith.methods.advice import levelled, short_of_rate


@pytest.mark.parametrize(
    ("rates", "warned"),
    [
        ([1.0, 1.0, 1.0, 0.34], False),
        ([1.0, 1.0, 1.0, 0.09], True),
        ([0.3, 0.3, 0.3, 0.1], False),
        ([0.0, 0.0, 0.05, 1.0], False),
        (None, False),
    ],
)
def test_what_comes_back_needs_a_rate(rates: list[float] | None, warned: bool) -> None:
    phases = cycle_phases(4, 2, 1, 1)
    found = short_of_rate(phases, rates)
    assert bool(found) == warned
    if warned:
        assert found == [
            "after the last restore, behind epoch 3, comes 2.9% of the training, counted in learning rate, and what "
            "comes back is hardly trained: fewer cycles, so that it is by epoch 2, or a rate that stays high"
        ]


def test_what_never_comes_back_needs_none() -> None:
    assert short_of_rate([Phase("full", 0, 2), Phase("sub", 2, 4)], [1.0, 0.0, 0.0, 0.0]) == []
    assert short_of_rate([Phase("full", 0, 4)], [1.0, 0.0, 0.0, 0.0]) == []


def test_groups_that_differed_and_differ_no_more() -> None:
    assert levelled([0.1, 0.05], [0.004, 0.004])
    for before, after in (([0.1, 0.05], [0.01, 0.005]), ([0.1, 0.1], [0.01, 0.01]), ([0.1], [0.1]), ([], [])):
        assert not levelled(before, after)


def test_the_examples() -> None:
    assert doctest.testmod(advice) == (0, 2)
