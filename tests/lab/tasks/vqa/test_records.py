"""Sets of questions: parts that fit together, and some of the questions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from filtersmith.lab.tasks.vqa.records import QuestionSet, VqaData


def numbers(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


def questions() -> QuestionSet:
    return QuestionSet(
        files=(Path("a.png"), Path("b.png"), Path("c.png")),
        image=numbers(2, 0, 2, 1),
        tokens=numbers(2, 3, 0, 4, 5, 6, 2, 0, 0, 3, 1, 0).view(4, 3),
        lengths=numbers(2, 3, 1, 2),
        label=numbers(0, 1, -1, 0),
        answers=(("yes",), ("no",), ("maybe",), ("yes",)),
        kinds=("yes/no", "yes/no", "other", "yes/no"),
        ids=numbers(10, 20, 21, 40),
    )


def test_a_part_has_its_own_images_alone() -> None:
    part = questions().part([2, 0])
    assert part.files == (Path("c.png"),)
    assert part.image.tolist() == [0, 0]
    assert (part.ids.tolist(), part.label.tolist(), part.lengths.tolist()) == ([21, 10], [-1, 0], [1, 2])
    assert part.tokens.tolist() == [[2, 0, 0], [2, 3, 0]]
    assert (part.answers, part.kinds) == ((("maybe",), ("yes",)), ("other", "yes/no"))
    both = questions().part(numbers(3, 1))
    assert [both.files[place] for place in both.image.tolist()] == [Path("b.png"), Path("a.png")]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image": numbers(0, 1)}, "image must be int64 of shape"),
        ({"label": torch.zeros(4)}, "label must be int64"),
        ({"tokens": numbers(1, 2, 3, 4)}, "tokens must be int64 of shape"),
        ({"kinds": ("other",)}, "4 questions need as many answers and kinds, got 4 and 1"),
        ({"image": numbers(3, 0, 0, 0)}, "image must be from 0 to 2"),
        ({"image": numbers(-1, 0, 0, 0)}, "image must be from 0 to 2"),
        ({"lengths": numbers(4, 1, 1, 1)}, "lengths must be from 0 to 3"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(questions(), **change)


def test_a_set_counts_its_answers_and_tokens() -> None:
    one = questions()
    data = VqaData("vqa:x", "x", one, one, ("is", "it"), ("yes", "no", "maybe"), (), 8)
    assert (data.num_classes, data.channels, data.vocabulary, data.held_out) == (3, 3, 4, None)
    assert (len(one), one.longest) == (4, 3)
