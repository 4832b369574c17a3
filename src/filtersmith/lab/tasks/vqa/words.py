"""The words of questions and their numbers, as in the code of the deeper LSTM of VQA v1."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from filtersmith.lab.tasks.vqa.records import FIRST_WORD, PADDING, UNKNOWN

LONGEST = 26
"""Words of a question that are read, as in that code."""

_SIGNS = re.compile(r"""([-."',:? !$#@~()*&^%;\[\]/\\+<>\n\t=])""")


def tokenize(question: str) -> list[str]:
    """A question's words in small letters; each sign of punctuation is a word.

    The rule of https://github.com/GT-Vision-Lab/VQA_LSTM_CNN (``prepro.py``), in small letters as its default, which
    needs nltk, has them.

    >>> tokenize("What's this?")
    ['what', "'", 's', 'this', '?']
    """
    return [word for word in _SIGNS.split(question.lower()) if word.strip()]


def words_of(questions: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The words of training questions, the most frequent first, those of equal frequency by the alphabet.

    All of them, as the deeper LSTM has it (``word_count_threshold`` 0): a word that is unknown is one that training
    does not have, and its vector is what it was drawn as.
    """
    counts = Counter(word for question in questions for word in question[:LONGEST])
    return tuple(sorted(counts, key=lambda word: (-counts[word], word)))


def encode(questions: Sequence[Sequence[str]], words: Sequence[str], longest: int) -> tuple[Tensor, Tensor]:
    """Questions as numbers.

    Args:
        questions: their words.
        words: those that are known, in order.
        longest: room for so many words of each question; what is beyond is cut off.

    Returns:
        tokens int64 (questions, longest), lengths int64 (questions,).
    """
    number = {word: FIRST_WORD + place for place, word in enumerate(words)}
    rows = []
    for question in questions:
        cut = [number.get(word, UNKNOWN) for word in question[:longest]]
        rows.append(cut + [PADDING] * (longest - len(cut)))
    lengths = torch.tensor([min(len(question), longest) for question in questions], dtype=torch.int64)
    return torch.tensor(rows, dtype=torch.int64).reshape(len(questions), longest), lengths
