"""How long runs take, from multiply-adds."""

from __future__ import annotations

import doctest

import pytest

from filtersmith import zoo
from filtersmith.lab.papers.published import table, tables
from filtersmith.lab.reproduce import estimate
from filtersmith.lab.reproduce.arms import arm_of


def test_work_is_images_times_epochs_times_multiply_adds() -> None:
    of = table("repr/table1")
    arm = arm_of(of.row(1), of)
    assert estimate.work(arm) == 3 * 50_000 * 100 * zoo.multiply_adds("vanilla", 10)
    assert all(estimate.work(arm_of(row, one)) > 0 for one in tables() for row in one.trained())
    assert estimate.work(arm_of(of.row(1), of, 0.1)) == pytest.approx(estimate.work(arm) / 10)
    assert estimate.whole_work(arm, 5) == 5 * estimate.work(arm)


def test_what_is_trained_before_counts() -> None:
    of = table("repr/table2")
    arm = arm_of(of.row(2), of)
    assert arm.teacher is not None
    assert estimate.whole_work(arm, 2) == 2 * estimate.work(arm) + estimate.work(arm.teacher)
    of = table("repr/table3")
    assert estimate.whole_work(arm_of(of.row(4), of), 1) == 3 * estimate.work(arm_of(of.row(2), of))


def test_arms_that_rows_share_count_once() -> None:
    of = table("repr/table1")
    row = of.row(1)
    assert estimate.of_table(of, (row, row), 1.0, 1) == estimate.work(arm_of(row, of))


def test_the_machine_is_measured() -> None:
    assert estimate.throughput() > 1e6


def test_durations_in_words() -> None:
    assert doctest.testmod(estimate).failed == 0
