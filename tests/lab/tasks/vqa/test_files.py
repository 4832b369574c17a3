"""The JSON files of VQA v1: what is read, and one clear line for whatever is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lab.tasks.vqa.small_set import lay_out, names

from filtersmith.lab.tasks.vqa.files import annotations_of, questions_of

TRAIN = "train2014"


def message(folder: Path) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        questions_of(folder, TRAIN), annotations_of(folder, TRAIN)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_entries_are_read(tmp_path: Path) -> None:
    lay_out(tmp_path)
    question = questions_of(tmp_path, TRAIN)[21]
    assert (question.id, question.image, question.text) == (21, 2, "What shape is it?")
    annotation = annotations_of(tmp_path, TRAIN)[21]
    assert (annotation.id, annotation.image, annotation.kind) == (21, 2, "other")
    assert (annotation.answer, annotation.answers) == ("circle", ("circle",) * 10)


def spoiled(which: int, change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Change the content of the questions (0) or the annotations (1)."""

    def spoil(folder: Path) -> None:
        file = names(folder, TRAIN)[which]
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))

    return spoil


def written(which: int, contents: bytes) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        names(folder, TRAIN)[which].write_bytes(contents)

    return spoil


def entry(which: int, place: int, **values: Any) -> Callable[[Path], None]:
    key = ("questions", "annotations")[which]
    return spoiled(which, lambda content: content[key][place].update(values))


def renamed(which: int, name: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        names(folder, TRAIN)[which].rename(folder / name)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (written(0, b'{"questions": ['), "_questions.json is no JSON: Expecting value"),
        (written(0, b"\xff\xfe"), "_questions.json is no JSON: it is not UTF-8 at byte 0"),
        (written(0, b"[" * 100_000), "_questions.json is no JSON"),
        (written(0, b"[1]"), "must be an object with a list 'questions'"),
        (written(0, b'{"questions": {}}'), "must be an object with a list 'questions'"),
        (written(0, b'{"questions": []}'), "_questions.json has no questions"),
        (written(1, b'{"annotations": []}'), "_annotations.json has no annotations"),
        (written(0, b'{"questions": [5]}'), "questions[0] must be an object, got 5"),
        (spoiled(0, lambda content: content["questions"][2].pop("question")), "questions[2] has no question"),
        (entry(0, 1, question_id="7"), "questions[1].question_id must be a whole number >= 0, got '7'"),
        (entry(0, 1, question_id=True), "questions[1].question_id must be a whole number >= 0, got True"),
        (entry(0, 1, image_id=-1), "questions[1].image_id must be a whole number >= 0, got -1"),
        (entry(0, 1, image_id=2**63), "questions[1].image_id must be a whole number"),
        (entry(0, 1, question=None), "questions[1].question must be a text, got None"),
        (entry(0, 1, question_id=0), "questions[1] has question_id 0, as another one before it"),
        (entry(1, 2, question_id=0), "annotations[2] has question_id 0, as another one before it"),
        (entry(1, 2, answers=[]), "annotations[2].answers must be a list that is not empty, got []"),
        (entry(1, 2, answers="yes"), "annotations[2].answers must be a list that is not empty, got 'yes'"),
        (entry(1, 2, answers=[{"answer": 1}]), "annotations[2].answers[0] must be an object with a text 'answer'"),
        (entry(1, 2, answers=["x" * 500]), "got 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx..."),
        (entry(1, 2, answer_type=1), "annotations[2].answer_type must be a text, got 1"),
        (entry(1, 2, multiple_choice_answer=3), "annotations[2].multiple_choice_answer must be a text, got 3"),
        (spoiled(0, lambda content: content.update(data_subtype="val2014")), "data_subtype is 'val2014'"),
        (spoiled(1, lambda content: content.update(data_subtype="val2014")), "is of another split"),
        (spoiled(0, lambda content: content.update(task_type="Multiple-Choice")), "is of another task"),
        (renamed(1, "elsewhere.json"), "has no mscoco_train2014_annotations.json"),
        (renamed(0, "elsewhere.json"), "expected are the questions and annotations of train2014 and val2014"),
        (renamed(0, "MultipleChoice_mscoco_train2014_questions.json"), "multiple choice is another task"),
        (renamed(0, "v2_OpenEnded_mscoco_train2014_questions.json"), "of VQA v2; only the layout of VQA v1"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, spoil: Callable[[Path], None], said: str) -> None:
    spoil(lay_out(tmp_path))
    text = message(tmp_path)
    assert said in text
    assert str(tmp_path) in text


def test_a_set_one_folder_below_is_found(tmp_path: Path) -> None:
    lay_out(tmp_path / "vqa")
    assert f"is it vqa:{tmp_path / 'vqa'}?" in message(tmp_path)


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    lay_out(tmp_path)
    file = names(tmp_path, TRAIN)[0]
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert len(questions_of(tmp_path, TRAIN)) == 12
