"""The words of questions: how they are split, chosen and numbered."""

from __future__ import annotations

import pytest

from filtersmith.lab.tasks.vqa.records import FIRST_WORD, PADDING, UNKNOWN
from filtersmith.lab.tasks.vqa.words import LONGEST, encode, tokenize, words_of


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("Is this a dog?", ["is", "this", "a", "dog", "?"]),
        ("What's  up, doc", ["what", "'", "s", "up", ",", "doc"]),
        ("t-shirt/jeans\n", ["t", "-", "shirt", "/", "jeans"]),
        ("Straße 5", ["straße", "5"]),
        (" \t\n", []),
        ("", []),
    ],
)
def test_questions_are_split_at_signs_and_spaces(question: str, words: list[str]) -> None:
    assert tokenize(question) == words


def test_words_are_in_order_of_frequency_then_of_the_alphabet() -> None:
    assert words_of([["c", "b", "a"], ["b", "c"], ["b"], ["a"]]) == ("b", "a", "c")
    assert words_of([["x"] * LONGEST + ["beyond"]]) == ("x",)


def test_questions_become_numbers() -> None:
    tokens, lengths = encode([["b", "new", "a"], [], ["a"] * 5], ("a", "b"), 4)
    a, b = FIRST_WORD, FIRST_WORD + 1
    assert tokens.tolist() == [[b, UNKNOWN, a, PADDING], [PADDING] * 4, [a] * 4]
    assert lengths.tolist() == [3, 0, 4]
    empty, none = encode([], ("a",), 4)
    assert (tuple(empty.shape), tuple(none.shape)) == ((0, 4), (0,))
