"""What a loaded set of questions about images is: two splits, the questions' words, the answers to choose from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

PADDING, UNKNOWN, FIRST_WORD = 0, 1, 2
"""Tokens: what stands behind a question's last word, a word that training doesn't have, the first one that it has."""


@dataclass(frozen=True)
class QuestionSet:
    """The questions of one split, q of them. ``ValueError`` where the parts do not fit together.

    Args:
        files: Of the images, each one once.
        image: int64 (q,), place in ``files``.
        tokens: int64 (q, longest), see `PADDING`, `UNKNOWN` and `FIRST_WORD`.
        lengths: int64 (q,), words of each question.
        label: int64 (q,), the true answer's place among the answers of the set; -1: it is none of them.
        answers: What people answered to each question, as it stands in the file but without white space around it:
            `filtersmith.lab.tasks.vqa.answers.accuracy` normalises them where the official rule does.
        kinds: Type of each answer: ``yes/no``, ``number`` or ``other``.
        ids: int64 (q,), the numbers that the file has for the questions.
    """

    files: tuple[Path, ...]
    image: Tensor
    tokens: Tensor
    lengths: Tensor
    label: Tensor
    answers: tuple[tuple[str, ...], ...]
    kinds: tuple[str, ...]
    ids: Tensor

    def __post_init__(self) -> None:
        count = len(self.ids)
        for name in ("image", "lengths", "label", "ids"):
            one: Tensor = getattr(self, name)
            if one.dtype != torch.int64 or one.shape != (count,):
                raise ValueError(f"{name} must be int64 of shape ({count},), got {one.dtype} {tuple(one.shape)}")
        if self.tokens.dtype != torch.int64 or self.tokens.dim() != 2 or len(self.tokens) != count:
            raise ValueError(
                f"tokens must be int64 of shape ({count}, longest), got {self.tokens.dtype} "
                f"{tuple(self.tokens.shape)}"
            )
        if len(self.answers) != count or len(self.kinds) != count:
            raise ValueError(
                f"{count} questions need as many answers and kinds, got {len(self.answers)} and {len(self.kinds)}"
            )
        if not _within(self.image, len(self.files) - 1):
            raise ValueError(f"image must be from 0 to {len(self.files) - 1}, the places among the files")
        if not _within(self.lengths, self.longest):
            raise ValueError(f"lengths must be from 0 to {self.longest}, the width of tokens")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def longest(self) -> int:
        """Words that a question has room for."""
        return self.tokens.shape[1]

    def part(self, rows: Tensor | Sequence[int]) -> QuestionSet:
        """Some of the questions, in this order, with the images that they are about and no others."""
        chosen = torch.as_tensor(rows, dtype=torch.int64)
        images, image = self.image[chosen].unique(return_inverse=True)
        places = chosen.tolist()
        return QuestionSet(
            files=tuple(self.files[place] for place in images.tolist()),
            image=image,
            tokens=self.tokens[chosen],
            lengths=self.lengths[chosen],
            label=self.label[chosen],
            answers=tuple(self.answers[place] for place in places),
            kinds=tuple(self.kinds[place] for place in places),
            ids=self.ids[chosen],
        )


def _within(values: Tensor, most: int) -> bool:
    return not bool(((values < 0) | (values > most)).any())


@dataclass(frozen=True)
class VqaData:
    """Questions about images, ready for training.

    Args:
        name: As the user typed it, for example ``vqa:../data/easy-vqa``.
        title: For tables and headings.
        train: Training split; labels of -1 are left out of training.
        test: Test split; labels of -1 stay, as questions whose true answer can't be chosen.
        words: Those of the training questions, the most frequent first: word k has the token `FIRST_WORD` + k.
        answers: The most frequent true answers of the training split; a label is a place among them.
        notes: What a person should know of how the set was read, a line each.
        image_size: Side in pixels of the square that every image is brought to.
        held_out: Questions kept out of ``train``, for methods that choose by data; None where nothing is held out.
    """

    name: str
    title: str
    train: QuestionSet
    test: QuestionSet
    words: tuple[str, ...]
    answers: tuple[str, ...]
    notes: tuple[str, ...]
    image_size: int
    held_out: QuestionSet | None = None

    @property
    def num_classes(self) -> int:
        """The answers to choose from."""
        return len(self.answers)

    @property
    def channels(self) -> int:
        """Always 3: images are read as RGB."""
        return 3

    @property
    def vocabulary(self) -> int:
        """Tokens that there are: the words, one for those that are unknown, one behind the last word."""
        return len(self.words) + FIRST_WORD
