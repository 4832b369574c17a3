"""Boxes are clipped to their images, and what has no area is left out and counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from reference.pictures import write

from filtersmith.lab.tasks.detection.boxes import Thing, check_written, fitted, real_size, target_of
from filtersmith.lab.tasks.detection.faults import Fault, Faults

SIZE = (40, 60)


@pytest.mark.parametrize(
    ("corners", "box", "fault"),
    [
        ((0, 0, 60, 40), (0, 0, 60, 40), None),
        ((1.5, 2, 3, 4.25), (1.5, 2, 3, 4.25), None),
        ((-0.4, 0, 60.5, 40), (0, 0, 60, 40), None),  # rounded numbers are no fault
        ((-1, 5, 10, 15), (0, 5, 10, 15), Fault.CLIPPED),
        ((50, 30, 70, 41.5), (50, 30, 60, 40), Fault.CLIPPED),
        ((60, 0, 70, 10), None, Fault.OUTSIDE),
        ((-10, 0, 0, 10), None, Fault.OUTSIDE),
        ((5, 5, 5, 10), None, Fault.NO_AREA),
        ((5, 10, 10, 10.001), None, Fault.NO_AREA),
        ((10, 5, 5, 10), None, Fault.NO_AREA),
        ((float("nan"), 0, 1, 1), None, Fault.NO_NUMBERS),
        ((0, 0, float("inf"), 1), None, Fault.NO_NUMBERS),
        (("nan", "0", "1", "1"), None, Fault.NO_NUMBERS),
        (("a", "0", "1", "1"), None, Fault.NO_NUMBERS),
        ((None, 0, 1, 1), None, Fault.NO_NUMBERS),
        ((0, 0, 10**400, 1), None, Fault.NO_NUMBERS),
        ((), None, Fault.NO_NUMBERS),
        ((0, 0, 1, 1, 1), None, Fault.NO_NUMBERS),
    ],
)
def test_a_box_in_its_image(corners: Any, box: Any, fault: Fault | None) -> None:
    assert fitted(corners, SIZE) == (box, fault)


@pytest.mark.parametrize(
    ("corners", "box", "fault"),
    [
        ((1, 1, 60, 40), (0, 0, 60, 40), None),  # the first and the last pixel of the image
        (("11", "21", "30", "40"), (10, 20, 30, 40), None),
        ((5, 5, 6, 6), (4, 4, 6, 6), None),  # two pixels wide
        ((5, 5, 5, 9), None, Fault.NO_AREA),
        ((0, 0, 10, 10), (0, 0, 10, 10), Fault.CLIPPED),  # counted from 0
        ((61, 1, 70, 10), None, Fault.OUTSIDE),
    ],
)
def test_pixels_that_are_counted_from_one(corners: Any, box: Any, fault: Fault | None) -> None:
    assert fitted(corners, SIZE, inclusive=True) == (box, fault)


def test_a_target_has_what_is_left_and_counts_what_is_not() -> None:
    things = [
        Thing(1, (0, 0, 10, 10), False),
        Thing(2, (5, 5, 5, 5), False),
        Thing(2, (50, 0, 70, 20), True),
        Thing(1, (100, 0, 110, 10), True),
    ]
    faults = Faults()
    target = target_of(things, SIZE, "a.jpg", faults)
    assert target.boxes.tolist() == [[0, 0, 10, 10], [50, 0, 60, 20]]
    assert (target.labels.tolist(), target.ignored.tolist()) == ([1, 2], [False, True])
    assert [faults.count(one) for one in (Fault.NO_AREA, Fault.CLIPPED, Fault.OUTSIDE)] == [1, 1, 1]
    assert all(line.endswith(": a.jpg") for line in faults.notes())
    assert target_of(things[:1], SIZE, "a", faults, inclusive=True).boxes.tolist() == [[0, 0, 10, 10]]


def test_an_image_without_things_has_an_empty_target() -> None:
    target = target_of([], SIZE, "a", Faults())
    assert (target.boxes.shape, target.boxes.dtype) == ((0, 4), torch.float32)
    assert (target.labels.shape, target.labels.dtype) == ((0,), torch.int64)
    assert (target.ignored.shape, target.ignored.dtype) == ((0,), torch.bool)


def test_sizes_are_those_of_the_files(tmp_path: Path) -> None:
    faults = Faults()
    assert real_size(write(tmp_path / "a.png", 0, size=(8, 12)), faults) == (8, 12)
    assert faults.notes() == []
    (tmp_path / "b.jpg").write_text("no image")
    assert real_size(tmp_path / "b.jpg", faults) is None
    assert real_size(tmp_path / "c.jpg", faults) is None
    (tmp_path / "d.jpg").mkdir()
    assert real_size(tmp_path / "d.jpg", faults) is None
    assert faults.notes() == [
        "2 images are not there and are left out: c.jpg, d.jpg",
        "1 image cannot be read and is left out: b.jpg",
    ]


@pytest.mark.parametrize(
    ("written", "wrong"),
    [
        ((40, 60), 0),
        ((40.0, 60.0), 0),
        ((None, None), 0),
        ((60, 40), 1),
        ((40, None), 1),
        ((0, 0), 1),
        (("x", 60), 1),
    ],
)
def test_a_size_that_is_written_is_compared_with_the_real_one(written: Any, wrong: int) -> None:
    faults = Faults()
    check_written(written, SIZE, "a", faults)
    assert faults.count(Fault.OTHER_SIZE) == wrong
