"""How long runs take, from multiply-adds."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from filtersmith import zoo
from filtersmith.lab.papers.published import table, tables
from filtersmith.lab.reproduce import estimate
from filtersmith.lab.reproduce.arms import arm_of
from filtersmith.lab.reproduce.plan import Place, needed


def test_work_is_images_times_epochs_times_multiply_adds() -> None:
    of = table("repr/table1")
    arm = arm_of(of.row(1), of)
    assert estimate.work(arm) == 3 * 50_000 * 100 * zoo.multiply_adds("vanilla", 10)
    assert all(estimate.work(arm_of(row, one)) > 0 for one in tables() for row in one.trained())
    assert estimate.work(arm_of(of.row(1), of, 0.1)) == pytest.approx(estimate.work(arm) / 10)
    assert estimate.work(arm, 1_437) == pytest.approx(estimate.work(arm) * 1_437 / 50_000)


def test_a_smaller_image_costs_less_and_backbones_count() -> None:
    of = table("repr/table7")
    arm = arm_of(of.row(2), of)
    assert estimate.work(arm) == 3 * 118_287 * 24 * estimate.DETECTORS["fasterrcnn-resnet50-fpn"]
    assert estimate.work(arm, 292, 200) == pytest.approx(estimate.work(arm, 292) / 16)
    found = needed([(arm, 0)], Place(Path("runs")))
    assert arm.pretrained is not None
    assert estimate.of_jobs(found, Place(Path("runs"))) == estimate.work(arm) + estimate.work(arm.pretrained)


def test_what_is_trained_before_counts_once() -> None:
    place = Place(Path("runs"))
    of = table("repr/table2")
    arms = [arm_of(of.row(number), of) for number in (2, 4)]
    found = needed([(arm, seed) for arm in arms for seed in (0, 1)], place)
    assert arms[0].teacher is not None
    assert estimate.of_jobs(found, place) == 4 * estimate.work(arms[0]) + estimate.work(arms[0].teacher)
    of = table("repr/table3")
    born_again = needed([(arm_of(of.row(4), of), 0)], place)
    assert estimate.of_jobs(born_again, place) == 3 * estimate.work(arm_of(of.row(2), of))


def test_the_machine_is_measured() -> None:
    assert estimate.throughput() > 1e6


def test_durations_in_words() -> None:
    assert doctest.testmod(estimate).failed == 0
