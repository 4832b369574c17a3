"""``vqa:PATH``: questions, annotations and images in the layout of VQA v1.

``OpenEnded_mscoco_{train2014,val2014}_questions.json``, ``mscoco_{train2014,val2014}_annotations.json`` and the
images ``{train2014,val2014}/COCO_{train2014,val2014}_{id of 12 digits}.{jpg,png}``. ``train2014`` is trained on,
``val2014`` tested on.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from filtersmith.common.options import bad_option, whole_number
from filtersmith.common.words import noun, plural
from filtersmith.lab.data.decode import need, size_of, unequal
from filtersmith.lab.data.defaults import title_of
from filtersmith.lab.data.files import entries, shortened
from filtersmith.lab.tasks.vqa.files import TEST, TRAIN, Annotation, Question, annotations_of, questions_of
from filtersmith.lab.tasks.vqa.records import QuestionSet, VqaData
from filtersmith.lab.tasks.vqa.words import LONGEST, encode, tokenize, words_of

MOST_ANSWERS = 1000
"""Answers to choose from, as in VQA's paper."""

_SUFFIXES = (".jpg", ".png")
_SHOWN = 3


@dataclass(frozen=True)
class _Asked:
    """A question with its words, its image and what was answered."""

    question: Question
    words: list[str]
    file: Path
    annotation: Annotation


def load(
    name: str, *, image_size: int | None = None, limit: int | None = None, most_answers: int = MOST_ANSWERS
) -> VqaData:
    """Read and check a set of questions about images.

    The answers to choose from are the most frequent true answers of the training questions, ties by the alphabet, as
    they stand there; words are those of the training questions that have one of these answers.

    Args:
        name: ``vqa:PATH``.
        image_size: Resize each image's short side to this many pixels and crop its centre; default: leave the images
            as they are, which must be squares of one size.
        limit: Train on so many of the questions, spread evenly over the file; default: on all.
        most_answers: How many answers there are to choose from, at most; at least 2.

    Raises:
        ValueError: One line that names what is wrong: an option, a path, an entry of a file. What can be left out
            safely is left out, and counted in the notes.
    """
    kind, _, place = name.partition(":")
    if kind != "vqa" or not place:
        raise bad_option("data", name, "vqa: followed by a path")
    if image_size is not None:
        whole_number("data.image_size", image_size, 1)
    whole_number("most_answers", most_answers, 2)
    folder = Path(place).expanduser()
    if not folder.is_dir():
        raise ValueError(f"{name}: there is no folder {folder}")
    need("PIL.Image")
    notes: list[str] = []
    train, test = (_asked(folder, split, notes) for split in (TRAIN, TEST))
    _check_apart(name, train, test, notes)
    train = _limited(train, limit)
    answers = _most_frequent([one.annotation.answer for one in train], most_answers)
    if len(answers) < 2:
        raise ValueError(f"{name}: at least 2 answers to choose from are needed, found {list(answers)}")
    chosen = set(answers)
    words = words_of([one.words for one in train if one.annotation.answer in chosen])
    notes += _uncounted(train, test, chosen) + _of_words(train, test, words)
    longest = min(LONGEST, max(len(one.words) for one in (*train, *test)))
    sets = [_question_set(split, words, answers, longest) for split in (train, test)]
    size = image_size or _size_of(name, (*sets[0].files, *sets[1].files))
    return VqaData(name, title_of(place), sets[0], sets[1], words, answers, tuple(notes), size)


def with_held_out(data: VqaData, count: int) -> VqaData:
    """The data with ``count`` questions held out of the training split, the same ones each time.

    Raises:
        ValueError: Fewer questions than that, or none would be left for training.
    """
    if not count:
        return data
    if not 0 < count < len(data.train):
        raise bad_option("data.holdout", count, f"below the {len(data.train):,} training questions")
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    kept, held = order[count:].sort().values, order[:count].sort().values
    return replace(data, train=data.train.part(kept), held_out=data.train.part(held))


# --- one split -----------------------------------------------------------------------------------------------


def _asked(folder: Path, split: str, notes: list[str]) -> list[_Asked]:
    """The questions of a split that have words, an annotation and an image, in the order of the file."""
    questions, annotations = questions_of(folder, split), annotations_of(folder, split)
    for number, annotation in annotations.items():
        if number in questions and questions[number].image != annotation.image:
            raise ValueError(
                f"mscoco_{split}_annotations.json is of another split or set: it has image {annotation.image} for "
                f"question {number}, which is about image {questions[number].image}"
            )
    images = _images(folder, split)
    words = {number: tokenize(question.text) for number, question in questions.items()}
    skipped = {
        "without an annotation": [number for number in questions if number not in annotations],
        "without an image": [n for n in questions if n in annotations and questions[n].image not in images],
        "without a word": [number for number in questions if not words[number]],
    }
    gone = {number for numbers in skipped.values() for number in numbers}
    stray = [number for number in annotations if number not in questions]
    if len(gone) == len(questions):
        raise ValueError(f"{folder} has no question of {split} to use: {_reasons(skipped, questions, split)}")
    notes += [
        f"{plural(len(numbers), f'{split} question')} {why} {noun(len(numbers), 'is', 'are')} skipped: "
        f"{_names(numbers, why, questions, split)}"
        for why, numbers in skipped.items()
        if numbers
    ]
    if stray:
        what = noun(len(stray), "is skipped, as its question is", "are skipped, as their questions are")
        notes.append(f"{plural(len(stray), f'{split} annotation')} {what} not there: {_listed(stray)}")
    return [
        _Asked(question, words[number], images[question.image], annotations[number])
        for number, question in questions.items()
        if number not in gone
    ]


def _images(folder: Path, split: str) -> dict[int, Path]:
    """The images of a split by their numbers."""
    place = folder / split
    if not place.is_dir():
        raise ValueError(f"{folder} has no folder {split} with the images COCO_{split}_{0:012d}.jpg (or .png) ...")
    found: dict[int, Path] = {}
    start = f"COCO_{split}_"
    for entry in entries(place):  # by name: of a .jpg and a .png the .jpg comes first
        stem, suffix = os.path.splitext(entry.name)
        number = stem.removeprefix(start)
        named = stem.startswith(start) and re.fullmatch(r"[0-9]{12}", number) and suffix.lower() in _SUFFIXES
        if named and entry.is_file():
            found.setdefault(int(number), Path(entry.path))
    return found


def _names(numbers: Sequence[int], why: str, questions: Mapping[int, Question], split: str) -> str:
    """The first questions, or the images that they lack."""
    if why != "without an image":
        return _listed(numbers)
    missing = dict.fromkeys(questions[number].image for number in numbers)
    return shortened([f"{split}/COCO_{split}_{image:012d}.jpg or .png" for image in missing], 1)


def _listed(numbers: Sequence[int]) -> str:
    return shortened([f"question {number}" for number in numbers], _SHOWN)


def _reasons(skipped: Mapping[str, Sequence[int]], questions: Mapping[int, Question], split: str) -> str:
    found = [(why, numbers) for why, numbers in skipped.items() if numbers]
    return "; ".join(
        f"{len(numbers):,} are {why} ({_names(numbers, why, questions, split)})" for why, numbers in found
    )


# --- both splits ---------------------------------------------------------------------------------------------


def _check_apart(name: str, train: Sequence[_Asked], test: Sequence[_Asked], notes: list[str]) -> None:
    """Refuse images, and questions with their answers, that are trained and tested on; note numbers used twice.

    A set may count its questions and images anew in each split (easy-VQA does): the same number alone says nothing.
    """
    real = {os.path.realpath(file) for file in {one.file for one in train}}
    if both := [file for file in dict.fromkeys(one.file for one in test) if os.path.realpath(file) in real]:
        raise ValueError(
            f"{name}: {plural(len(both), 'image')} of {TEST} {_is(both)} trained on, too, like {both[0]}"
        )
    by_id = {one.question.id: one for one in train}
    again = [one for one in test if one.question.id in by_id]
    copies = [one for one in again if (one.question, one.annotation) == _entry(by_id[one.question.id])]
    if 2 * len(copies) > len(test):
        raise ValueError(
            f"{name}: {len(copies):,} of {len(test):,} {TEST} questions are those of {TRAIN}, with the same numbers, "
            f"images and answers ({_listed([one.question.id for one in copies])}): it would be tested on what it is "
            "trained on"
        )
    if again:
        notes.append(
            f"{plural(len(again), 'question')} of {TEST} {noun(len(again), 'has a number', 'have numbers')} of "
            f"{TRAIN}, too: numbers start anew there"
        )


def _entry(one: _Asked) -> tuple[Question, Annotation]:
    return one.question, one.annotation


def _is(found: Sequence[object]) -> str:
    return noun(len(found), "is", "are")


def _limited(train: list[_Asked], limit: int | None) -> list[_Asked]:
    if limit is None:
        return train
    if isinstance(limit, bool) or not isinstance(limit, int) or not 2 <= limit <= len(train):
        raise bad_option("data.limit", limit, f"from 2 to the {len(train):,} training questions")
    return [train[place * len(train) // limit] for place in range(limit)]


def _most_frequent(answers: Sequence[str], most: int) -> tuple[str, ...]:
    counts = Counter(answers)
    return tuple(sorted(counts, key=lambda answer: (-counts[answer], answer))[:most])


def _uncounted(train: Sequence[_Asked], test: Sequence[_Asked], chosen: set[str]) -> list[str]:
    """Notes on questions whose true answer cannot be chosen."""
    notes = []
    if left := [one.annotation.answer for one in train if one.annotation.answer not in chosen]:
        what = f"{plural(len(left), f'{TRAIN} question')} {noun(len(left), 'is', 'are')} not trained on"
        notes.append(f"{what}, with none of the {len(chosen):,} most frequent answers: {_quoted(left)}")
    seen = {one.annotation.answer for one in train}
    if rare := [one.annotation.answer for one in test if one.annotation.answer in seen - chosen]:
        what = f"{plural(len(rare), f'{TEST} question')} {noun(len(rare), 'has a true answer', 'have true answers')}"
        notes.append(
            f"{what} that {noun(len(rare), 'is', 'are')} too rare in training to choose from: {_quoted(rare)}"
        )
    if never := [one.annotation.answer for one in test if one.annotation.answer not in seen]:
        what = (
            f"{plural(len(never), f'{TEST} question')} {noun(len(never), 'has a true answer', 'have true answers')}"
        )
        notes.append(f"{what} that training never has: {_quoted(never)}")
    return notes


def _quoted(answers: Sequence[str]) -> str:
    return shortened([repr(answer) for answer in dict.fromkeys(answers)], _SHOWN)


def _of_words(train: Sequence[_Asked], test: Sequence[_Asked], words: Sequence[str]) -> list[str]:
    """Notes on test questions with words that are not known, and on questions that are cut off."""
    notes, known = [], set(words)
    if strange := [one for one in test if not known.issuperset(one.words)]:
        new = [word for one in strange for word in one.words if word not in known]
        what = f"{plural(len(strange), f'{TEST} question')} {noun(len(strange), 'has', 'have')} words"
        notes.append(f"{what} that training does not have: {_quoted(new)}")
    if long := [one.question.id for one in (*train, *test) if len(one.words) > LONGEST]:
        notes.append(f"{plural(len(long), 'question')} {_is(long)} cut off at {LONGEST} words: {_listed(long)}")
    return notes


def _question_set(split: Sequence[_Asked], words: Sequence[str], answers: Sequence[str], longest: int) -> QuestionSet:
    places = {file: place for place, file in enumerate(sorted({one.file for one in split}))}
    label_of = {answer: place for place, answer in enumerate(answers)}
    tokens, lengths = encode([one.words for one in split], words, longest)
    return QuestionSet(
        files=tuple(places),
        image=torch.tensor([places[one.file] for one in split], dtype=torch.int64),
        tokens=tokens,
        lengths=lengths,
        label=torch.tensor([label_of.get(one.annotation.answer, -1) for one in split], dtype=torch.int64),
        answers=tuple(one.annotation.answers for one in split),
        kinds=tuple(one.annotation.kind for one in split),
        ids=torch.tensor([one.question.id for one in split], dtype=torch.int64),
    )


def _size_of(name: str, files: Sequence[Path]) -> int:
    """The side of all images, from their headers."""
    height, width = size_of(files[0])
    if height != width:
        raise ValueError(
            f"{name}: the images are {height} high and {width} wide, but the networks need squares; "
            f"data.image_size={min(height, width)} resizes and centre-crops every image"
        )
    for file in files[1:]:
        if (other := size_of(file)) != (height, width):
            raise ValueError(unequal(str(files[0]), (height, width), str(file), other))
    return height
