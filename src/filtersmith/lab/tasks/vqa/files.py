"""The JSON files of VQA v1: found in a folder, read, and each entry checked."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filtersmith.lab.data.decode import read
from filtersmith.lab.tasks.vqa.answers import stripped

TRAIN, TEST = "train2014", "val2014"
"""The splits that are trained and tested on, as VQA names them."""


@dataclass(frozen=True)
class Question:
    """An entry of a file of questions."""

    id: int
    image: int
    text: str


@dataclass(frozen=True)
class Annotation:
    """An entry of a file of annotations: what people answered to a question, and the answer that counts as true."""

    id: int
    image: int
    answer: str
    answers: tuple[str, ...]
    kind: str


def questions_of(folder: Path, split: str) -> dict[int, Question]:
    """The open-ended questions of a split, by their numbers.

    Raises:
        ValueError: the file is missing, is no JSON, is of another split, has an entry that can't be, or no entries.
    """
    path = folder / f"OpenEnded_mscoco_{split}_questions.json"
    if not path.is_file():
        raise ValueError(f"{folder} has no {path.name}{_instead(folder, split)}")
    return _by_id(path, "questions", split, _question)


def annotations_of(folder: Path, split: str) -> dict[int, Annotation]:
    """The annotations of a split, by the numbers of their questions.

    Raises:
        ValueError: as `questions_of` does.
    """
    path = folder / f"mscoco_{split}_annotations.json"
    if not path.is_file():
        raise ValueError(f"{folder} has no {path.name}, without which the answers are not known")
    return _by_id(path, "annotations", split, _annotation)


def _instead(folder: Path, split: str) -> str:
    """What may be there in place of a split's open-ended questions."""
    if (found := folder / f"MultipleChoice_mscoco_{split}_questions.json").is_file():
        return f" but {found.name}: multiple choice is another task; get VQA v1's open-ended questions, too"
    if (found := folder / f"v2_OpenEnded_mscoco_{split}_questions.json").is_file():
        return f" but {found.name}, of VQA v2; only the layout of VQA v1 is read"
    below = next((one for one in _folders(folder) if any(one.glob("OpenEnded_mscoco_*_questions.json"))), None)
    if below is not None:
        return f"; is it vqa:{below}?"
    return f"; expected are the questions and annotations of {TRAIN} and {TEST} as VQA v1 has them"


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(one for one in folder.iterdir() if one.is_dir())
    except OSError as error:
        raise ValueError(f"{folder} cannot be read: {error.strerror}") from error


def _by_id(path: Path, key: str, split: str, entry: Callable[[_Fields], Any]) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for place, raw in enumerate(_entries(path, key, split)):
        one = entry(_Fields(path, key, place, raw))
        if one.id in found:
            raise ValueError(f"{path}: {key}[{place}] has question_id {one.id}, as another one before it")
        found[one.id] = one
    return found


def _entries(path: Path, key: str, split: str) -> list[Any]:
    """The list of a file's entries."""
    try:
        content = json.loads(read(path).decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no JSON: it is not UTF-8 at byte {error.start:,}") from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get(key), list):
        raise ValueError(f"{path} must be an object with a list {key!r}")
    named = content.get("data_subtype", split)
    if named != split:
        raise ValueError(f"{path} is of another split: its data_subtype is {named!r}")
    task = content.get("task_type", "Open-Ended")
    if task != "Open-Ended":
        raise ValueError(f"{path} is of another task: its task_type is {task!r}, not 'Open-Ended'")
    entries: list[Any] = content[key]
    if not entries:
        raise ValueError(f"{path} has no {key}")
    return entries


class _Fields:
    """An entry's fields, each of the type that it must have; there are millions in VQA, so errors are worded late."""

    def __init__(self, path: Path, key: str, place: int, entry: Any) -> None:
        self._place = path, key, place
        self._entry: dict[str, Any] = entry
        if not isinstance(entry, dict):
            raise ValueError(f"{self.where} must be an object, got {_shown(entry)}")

    @property
    def where(self) -> str:
        """File, list and place of the entry."""
        path, key, place = self._place
        return f"{path}: {key}[{place}]"

    def number(self, name: str) -> int:
        value = self._get(name)
        if type(value) is not int or not 0 <= value < 2**63:
            raise ValueError(f"{self.where}.{name} must be a whole number >= 0, got {_shown(value)}")
        return value

    def text(self, name: str) -> str:
        value = self._get(name)
        if not isinstance(value, str):
            raise ValueError(f"{self.where}.{name} must be a text, got {_shown(value)}")
        return value

    def texts(self, name: str, of: str) -> list[str]:
        """The texts ``of`` the objects in a list."""
        value = self._get(name)
        if not isinstance(value, list) or not value:
            raise ValueError(f"{self.where}.{name} must be a list that is not empty, got {_shown(value)}")
        for place, one in enumerate(value):
            if not isinstance(one, dict) or not isinstance(one.get(of), str):
                raise ValueError(
                    f"{self.where}.{name}[{place}] must be an object with a text {of!r}, got {_shown(one)}"
                )
        return [one[of] for one in value]

    def _get(self, name: str) -> Any:
        if name not in self._entry:
            raise ValueError(f"{self.where} has no {name}")
        return self._entry[name]


def _question(fields: _Fields) -> Question:
    return Question(fields.number("question_id"), fields.number("image_id"), fields.text("question"))


def _annotation(fields: _Fields) -> Annotation:
    return Annotation(
        id=fields.number("question_id"),
        image=fields.number("image_id"),
        answer=stripped(fields.text("multiple_choice_answer")),
        answers=tuple(map(stripped, fields.texts("answers", "answer"))),
        kind=fields.text("answer_type"),
    )


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
