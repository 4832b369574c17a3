"""``vqa:PATH``: what becomes of questions, words and answers, and of whatever is wrong with a set."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lab.tasks.vqa.small_set import Change, Entry, annotation, lay_out, names, picture
from reference.pictures import write

from filtersmith.lab.tasks.vqa.layout import load, with_held_out
from filtersmith.lab.tasks.vqa.records import FIRST_WORD, UNKNOWN, VqaData


def at(folder: Path, **options: Any) -> VqaData:
    return load(f"vqa:{folder}", **options)


def message(folder: Path, **options: Any) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        at(folder, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def notes(folder: Path, **options: Any) -> str:
    return "\n".join(at(folder, **options).notes)


def test_a_set_is_read(tmp_path: Path) -> None:
    data = at(lay_out(tmp_path))
    assert (data.name, data.title, data.image_size) == (f"vqa:{tmp_path}", tmp_path.name, 8)
    assert data.notes == ()
    assert data.answers == ("1", "2", "circle", "no", "square", "yes"), "two of each, so by the alphabet"
    assert data.words == ("?", "is", "it", "how", "many", "red", "shape", "what")
    train, test = data.train, data.test
    assert train.files == tuple(picture(tmp_path, "train2014", image) for image in range(4))
    assert test.files == tuple(picture(tmp_path, "val2014", image) for image in (10, 11))
    assert train.image.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert train.ids.tolist() == [10 * image + k for image in range(4) for k in range(3)]
    assert [data.answers[label] for label in train.label[:6].tolist()] == ["yes", "circle", "1", "no", "square", "2"]
    assert train.kinds[:3] == ("yes/no", "other", "number")
    assert train.answers[1] == ("circle",) * 10
    assert train.lengths[:3].tolist() == [4, 5, 3]
    assert train.longest == test.longest == 5
    words = [data.words[token - FIRST_WORD] for token in train.tokens[1].tolist()]
    assert words == ["what", "shape", "is", "it", "?"]


def test_the_most_frequent_answers_are_chosen_from(tmp_path: Path) -> None:
    def more_circles(questions: list[Entry], annotations: list[Entry]) -> None:
        annotations[4] = annotation(11, 1, "circle")

    data = at(lay_out(tmp_path, train=more_circles), most_answers=3)
    assert data.answers == ("circle", "1", "2")
    assert data.train.label.tolist() == [-1, 0, 1, -1, 0, 2, -1, 0, 1, -1, -1, 2]
    said = "\n".join(data.notes)
    assert "5 train2014 questions are not trained on, with none of the 3 most frequent answers: 'yes', 'no'" in said
    assert "3 val2014 questions have true answers that are too rare in training to choose from: 'yes', 'no'" in said
    assert "red" not in data.words, "no question with it is trained on"
    assert "2 val2014 questions have words that training does not have: 'red'" in said


def test_answers_and_words_never_seen_are_counted(tmp_path: Path) -> None:
    def new(questions: list[Entry], annotations: list[Entry]) -> None:
        questions[0]["question"] = "Is it purple?"
        annotations[1] = annotation(101, 10, "star")

    data = at(lay_out(tmp_path, test=new))
    assert data.test.label[1] == -1
    assert data.test.answers[1] == ("star",) * 10
    assert data.test.tokens[0].tolist().count(UNKNOWN) == 1
    assert data.notes == (
        "1 val2014 question has a true answer that training never has: 'star'",
        "1 val2014 question has words that training does not have: 'purple'",
    )


def test_long_questions_are_cut_off(tmp_path: Path) -> None:
    def long(questions: list[Entry], annotations: list[Entry]) -> None:
        questions[5]["question"] = "word " * 30

    data = at(lay_out(tmp_path, train=long))
    assert data.train.longest == 26
    assert int(data.train.lengths[5]) == 26
    assert data.notes == ("1 question is cut off at 26 words: question 12",)


def lacks_annotation(questions: list[Entry], annotations: list[Entry]) -> None:
    del annotations[3:5]


def lacks_question(questions: list[Entry], annotations: list[Entry]) -> None:
    del questions[0]


def has_no_words(questions: list[Entry], annotations: list[Entry]) -> None:
    questions[2]["question"] = "  "


@pytest.mark.parametrize(
    ("change", "said", "left"),
    [
        (lacks_annotation, "2 train2014 questions without an annotation are skipped: question 10, question 11", 10),
        (lacks_question, "1 train2014 annotation is skipped, as its question is not there: question 0", 11),
        (has_no_words, "1 train2014 question without a word is skipped: question 2", 11),
    ],
)
def test_what_can_be_left_out_is_counted_and_named(tmp_path: Path, change: Change, said: str, left: int) -> None:
    data = at(lay_out(tmp_path, train=change))
    assert said in data.notes
    assert len(data.train) == left


def test_questions_about_missing_images_are_skipped(tmp_path: Path) -> None:
    picture(lay_out(tmp_path), "train2014", 2).unlink()
    data = at(tmp_path)
    image = "train2014/COCO_train2014_000000000002.jpg or .png"
    assert data.notes == (f"3 train2014 questions without an image are skipped: {image}",)
    assert len(data.train) == 9
    assert len(data.train.files) == 3


def test_jpegs_and_pngs_are_images_and_other_files_are_not(tmp_path: Path) -> None:
    folder = lay_out(tmp_path) / "train2014"
    picture(tmp_path, "train2014", 1).unlink()
    write(picture(tmp_path, "train2014", 1, "jpg"), seed=1)
    write(folder / "COCO_val2014_000000000002.png", seed=2)
    write(folder / "COCO_train2014_00000000000².png", seed=2)
    (folder / "readme.txt").write_text("")
    data = at(tmp_path)
    assert [file.suffix for file in data.train.files] == [".png", ".jpg", ".png", ".png"]
    assert data.notes == ()


def nothing(questions: list[Entry], annotations: list[Entry]) -> None:
    for place, one in enumerate(annotations):
        one["question_id"] = 1000 + place


def other_image(questions: list[Entry], annotations: list[Entry]) -> None:
    annotations[4]["image_id"] = 77


def one_answer(questions: list[Entry], annotations: list[Entry]) -> None:
    for one in annotations:
        one["multiple_choice_answer"] = "yes"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (nothing, "has no question of train2014 to use: 12 are without an annotation (question 0, question 1, "),
        (other_image, "is of another split or set: it has image 77 for question 11, which is about image 1"),
        (one_answer, "at least 2 answers to choose from are needed, found ['yes']"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, change: Change, said: str) -> None:
    assert said in message(lay_out(tmp_path, train=change))


def test_folders_that_lack_images_are_refused(tmp_path: Path) -> None:
    lay_out(tmp_path)
    for file in (tmp_path / "val2014").iterdir():
        file.unlink()
    assert "has no question of val2014 to use: 6 are without an image (val2014/COCO_val2014_000000000010" in message(
        tmp_path
    )
    (tmp_path / "val2014").rmdir()
    assert "has no folder val2014 with the images COCO_val2014_000000000000.jpg" in message(tmp_path)


def test_images_of_other_sizes_are_refused_or_resized(tmp_path: Path) -> None:
    wide = write(picture(lay_out(tmp_path), "val2014", 11), seed=5, size=(8, 9))
    assert f"{wide} is 9x8" in message(tmp_path)
    assert at(tmp_path, image_size=6).image_size == 6
    write(picture(tmp_path, "train2014", 0), seed=5, size=(8, 9))
    assert "the images are 8 high and 9 wide" in message(tmp_path)


def test_damaged_images_are_refused_by_name(tmp_path: Path) -> None:
    file = picture(lay_out(tmp_path), "train2014", 3)
    file.write_bytes(b"no image")
    assert f"{file} cannot be read as an image" in message(tmp_path)


def test_a_test_set_that_is_the_training_set_is_refused(tmp_path: Path) -> None:
    lay_out(tmp_path)
    for file, copy in zip(names(tmp_path, "train2014"), names(tmp_path, "val2014"), strict=True):
        copy.write_text(file.read_text().replace("train2014", "val2014"))
    for image in range(4):
        shutil.copy(picture(tmp_path, "train2014", image), picture(tmp_path, "val2014", image))
    assert "12 of 12 val2014 questions are those of train2014" in message(tmp_path)


def test_images_of_both_splits_are_refused(tmp_path: Path) -> None:
    file = picture(lay_out(tmp_path), "val2014", 10)
    file.unlink()
    file.symlink_to(picture(tmp_path, "train2014", 0))
    assert f"1 image of val2014 is trained on, too, like {file}" in message(tmp_path)


def test_numbers_that_start_anew_in_the_test_set_are_noted(tmp_path: Path) -> None:
    def renumber(questions: list[Entry], annotations: list[Entry]) -> None:
        for one in (*questions, *annotations):
            one["question_id"] -= 100

    assert "6 questions of val2014 have numbers of train2014, too" in notes(lay_out(tmp_path, test=renumber))


def test_a_limit_takes_questions_spread_evenly(tmp_path: Path) -> None:
    data = at(lay_out(tmp_path), limit=4)
    assert data.train.ids.tolist() == [0, 10, 20, 30]
    assert data.answers == ("no", "yes")
    assert len(data.train.files) == 4
    assert len(data.test) == 6, "all of it"
    assert len(at(tmp_path, limit=12).train) == 12
    assert at(tmp_path, limit=5).train.ids.tolist() == [0, 2, 11, 21, 30]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"limit": 13}, "data.limit must be from 2 to the 12 training questions, got 13"),
        ({"limit": 1}, "data.limit must be"),
        ({"limit": True}, "data.limit must be"),
        ({"image_size": 0}, "data.image_size must be"),
        ({"most_answers": 1}, "most_answers must be"),
    ],
)
def test_options_out_of_range_are_refused(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    assert said in message(lay_out(tmp_path), **options)


@pytest.mark.parametrize(
    ("name", "said"), [("vqa:", "followed by a path"), ("voc:x", "followed by a path"), ("vqa:/absent", "no folder")]
)
def test_names_of_no_set_are_refused(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        load(name)


def test_questions_are_held_out(tmp_path: Path) -> None:
    data = at(lay_out(tmp_path))
    held = with_held_out(data, 5)
    assert held.held_out is not None
    assert len(held.train) == 7
    assert sorted([*held.train.ids.tolist(), *held.held_out.ids.tolist()]) == data.train.ids.tolist()
    again = with_held_out(data, 5).held_out
    assert again is not None
    assert torch.equal(again.ids, held.held_out.ids)
    assert with_held_out(data, 0) is data
    with pytest.raises(ValueError, match=r"data\.holdout must be below the 12 training questions, got 12"):
        with_held_out(data, 12)


def test_easy_vqa_is_read() -> None:
    shared = os.environ.get("FILTERSMITH_SHARED") or Path(__file__).parents[4].parent / "shared"
    folder = Path(shared) / "data" / "easy-vqa"
    if not folder.is_dir():
        pytest.skip(f"real images are not at hand: {folder} is absent")
    data = at(folder)
    assert (len(data.train), len(data.test)) == (38575, 9673)
    assert (len(data.train.files), len(data.test.files)) == (4000, 1000)
    assert (data.num_classes, len(data.words), data.image_size) == (13, 27, 64)
    assert data.answers[:3] == ("yes", "no", "rectangle")
    assert int(data.train.label.min()) == int(data.test.label.min()) == 0
    assert data.notes == ("9,673 questions of val2014 have numbers of train2014, too: numbers start anew there",)
