"""What a network is asked to fit, and whole numbers as people and NumPy write them."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from filtersmith.zoo.info import NUMBER, Task, positive_int


def test_numbers_in_names_have_one_spelling() -> None:
    assert [bool(re.fullmatch(NUMBER, text)) for text in ("0", "7", "10", "110")] == [True] * 4
    assert [bool(re.fullmatch(NUMBER, text)) for text in ("", "00", "07", "-1", "1.0", "\u0667")] == [False] * 6


@pytest.mark.parametrize("value", [0, -1, 2.0, "3", None, True])
def test_a_task_is_made_of_positive_whole_numbers(value: object) -> None:
    for option in ("num_classes", "in_channels", "image_size"):
        expected = f"{option} must be a whole number of at least 1, got {value!r}"
        with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
            Task(**{option: value})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^small_images must be True or False, got 1$"):
        Task(small_images=1)  # type: ignore[arg-type]


def test_numpys_numbers_become_pythons_and_a_task_stays_as_it_is() -> None:
    task = Task(np.int64(7), 1, np.uint8(40))  # type: ignore[arg-type]
    assert task == Task(7, 1, 40)
    assert [type(value) for value in dataclasses.astuple(task)] == [int, int, int, bool]
    assert type(positive_int("depth", np.int32(3))) is int
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.image_size = 8  # type: ignore[misc]
