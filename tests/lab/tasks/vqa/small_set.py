"""A small set of questions in VQA v1's layout, laid out by tests that then spoil it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from reference.pictures import write

SPLITS = {"train": "train2014", "test": "val2014"}
Entry = dict[str, Any]
Change = Callable[[list[Entry], list[Entry]], None]
"""What is done to the questions and annotations of a split before they are written."""

TEXTS = (("Is it red?", "yes/no"), ("What shape is it?", "other"), ("How many?", "number"))
ANSWERS = (("yes", "no"), ("circle", "square"), ("1", "2"))


def entries(split: str, images: Iterable[int]) -> tuple[list[Entry], list[Entry]]:
    """Three questions about each image; question ``10 * image + k`` has ten answers, all alike."""
    questions, annotations = [], []
    for image in images:
        for number, (text, kind) in enumerate(TEXTS):
            own = 10 * image + number
            answer = ANSWERS[number][image % 2]
            questions.append({"image_id": image, "question": text, "question_id": own})
            annotations.append(annotation(own, image, answer, kind))
    return questions, annotations


def annotation(number: int, image: int, answer: str, kind: str = "other") -> Entry:
    people = [{"answer_id": place + 1, "answer": answer, "answer_confidence": "yes"} for place in range(10)]
    own = {"question_id": number, "image_id": image, "answer_type": kind, "question_type": "is"}
    return {**own, "multiple_choice_answer": answer, "answers": people}


def names(folder: Path, split: str) -> tuple[Path, Path]:
    """The files of a split's questions and annotations."""
    return folder / f"OpenEnded_mscoco_{split}_questions.json", folder / f"mscoco_{split}_annotations.json"


def picture(folder: Path, split: str, image: int, suffix: str = "png") -> Path:
    return folder / split / f"COCO_{split}_{image:012d}.{suffix}"


def lay_out(folder: Path, train: Change | None = None, test: Change | None = None) -> Path:
    """Images 0 to 3 to train on and 10 to 11 to test on, 8x8 pixels."""
    for name, images, change in (("train", range(4), train), ("test", range(10, 12), test)):
        split = SPLITS[name]
        questions, annotations = entries(split, images)
        if change is not None:
            change(questions, annotations)
        files = names(folder, split)
        folder.mkdir(exist_ok=True, parents=True)
        files[0].write_text(json.dumps({"task_type": "Open-Ended", "data_subtype": split, "questions": questions}))
        files[1].write_text(json.dumps({"data_subtype": split, "annotations": annotations}))
        for image in images:
            write(picture(folder, split, image), seed=image)
    return folder
