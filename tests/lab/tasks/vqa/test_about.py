"""What a person sees of a set of questions, and fingerprints that tell two sets apart."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from lab.tasks.vqa.small_set import Entry, lay_out, names, picture
from reference.pictures import write

from filtersmith.lab.data.fingerprint import difference
from filtersmith.lab.tasks.vqa.about import describe, fingerprint
from filtersmith.lab.tasks.vqa.layout import load, with_held_out
from filtersmith.lab.tasks.vqa.records import VqaData


def at(folder: Path) -> VqaData:
    return load(f"vqa:{folder}")


def test_a_set_is_described(tmp_path: Path) -> None:
    def lacks(questions: list[Entry], annotations: list[Entry]) -> None:
        del annotations[0]

    assert describe(with_held_out(at(lay_out(tmp_path, train=lacks)), 2)) == [
        "6 answers to choose from: 1, 2, circle, no, square, yes",
        "questions of each answer type: training number 3, other 3, yes/no 3; test number 2, other 2, yes/no 2; "
        "held-out number 1, other 1",
        "8 words, at most 5 in a question; 4 images to train and 2 to test on",
        "note: 1 train2014 question without an annotation is skipped: question 0",
    ]


def test_equal_sets_elsewhere_have_equal_fingerprints(tmp_path: Path) -> None:
    one = fingerprint(at(lay_out(tmp_path / "a")))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    other = fingerprint(at(tmp_path / "b"))
    assert one == other
    assert difference(one, json.loads(json.dumps(other))) is None
    assert one["splits"]["train"]["images"] == 12


def other_answer(folder: Path) -> None:
    replace(folder, '"circle"', '"disc"')


def other_question(folder: Path) -> None:
    replace(folder, "How many?", "Is it red?")


def one_person(folder: Path) -> None:
    replace(folder, '"answer_id": 3, "answer": "1"', '"answer_id": 3, "answer": "3"')


def other_image(folder: Path) -> None:
    write(picture(folder, "train2014", 1), seed=99)


def replace(folder: Path, old: str, new: str) -> None:
    for file in names(folder, "train2014"):
        file.write_text(file.read_text().replace(old, new))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (other_answer, "class 2 is 'circle' there and 'disc' here"),
        (other_question, "the train split has other labels there and here"),
        (one_person, "the train split has other labels there and here"),
        (other_image, "the train split has"),
    ],
)
def test_other_sets_have_other_fingerprints(tmp_path: Path, change: Callable[[Path], None], said: str) -> None:
    one = fingerprint(at(lay_out(tmp_path)))
    change(tmp_path)
    assert (difference(one, fingerprint(at(tmp_path))) or "").startswith(said)
