"""The accuracy of open-ended answers, by the official rule of VQA with its normalisation.

An answer is right as far as people gave it: three of them make it fully right. Each of the ten people is left out in
turn, and the answer is compared with the others'; the mean over the ten is the question's accuracy. Answers are
normalised only where people's answers differ, as in the official code.

Source: Antol et al., *VQA: Visual Question Answering*, ICCV 2015, https://arxiv.org/abs/1505.00468; the code is
``PythonEvaluationTools/vqaEvaluation/vqaEval.py`` of https://github.com/GT-Vision-Lab/VQA. Its two quirks are kept:
``none`` is a number, and at most 32 full stops go (a flag was passed there as a count).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

PEOPLE = 10
"""Answers that VQA has of each question; with another number of them nobody is left out, see `accuracy`."""

_ENOUGH = 3  # people who make an answer fully right

_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
DIGITS = {"none": "0", **{word: str(number) for number, word in enumerate(_NUMBERS)}}
"""Words that become digits."""

ARTICLES = ("a", "an", "the")
"""Words that go."""

PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
"""Signs that go, each in its turn; the apostrophe stays."""

_ONE_APOSTROPHE = """
    ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll how's I'm
    I've isn't it'd it'll ma'am mightn't might've mustn't must've needn't not've o'clock oughtn't shan't should've
    shouldn't somebody'll somebody's someone'd someone'll someone's something'd something'll that's there'd there're
    there's they'd they'll they're they've 'twas wasn't we've weren't what'll what're what's what've when's where'd
    where's where've who'd who'll who's who've why'll why're why's won't would've wouldn't y'all you'd you'll you're
    you've
"""
_MORE_APOSTROPHES = """
    couldn't've hadn't've he'd've I'd've it'd've mightn't've 'ow's'at she'd've shouldn't've somebody'd've someone'd've
    something'd've there'd've they'd've we'd've who'd've wouldn't've y'all'll y'all'd've you'd've
"""


def _contractions() -> dict[str, str]:
    """The official table, of 120 rows: each contraction by its spellings with one apostrophe missing.

    Three rows are odd: two contractions stand for themselves, and one loses its apostrophe.
    """
    table = {"let's": "let's", "she's": "she's", "somebody'd": "somebodyd"}
    for word in (_ONE_APOSTROPHE + _MORE_APOSTROPHES).split():
        for sign in re.finditer("'", word):
            table[word[: sign.start()] + word[sign.end() :]] = word
    return table


CONTRACTIONS = _contractions()
"""Spelling without an apostrophe -> with it."""

_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_FULL_STOP = re.compile(r"\.(?!\d)")
_MOST_FULL_STOPS = 32


@lru_cache(maxsize=2**18)
def normalise(answer: str) -> str:
    """An answer without punctuation, capitals and articles, numbers as digits, contractions with their apostrophes.

    A sign of `PUNCTUATION` goes where a space stands beside it somewhere in the answer, or where a comma stands
    between digits; otherwise it becomes a space.

    >>> normalise("The two Dogs."), normalise("1,000"), normalise("red/white"), normalise("dont know")
    ('2 dogs', '1000', 'red white', "don't know")
    """
    text = stripped(answer)
    number = _COMMA_IN_NUMBER.search(text) is not None
    given = text
    for sign in PUNCTUATION:
        beside_space = f"{sign} " in given or f" {sign}" in given
        text = text.replace(sign, "" if beside_space or number else " ")
    text = _FULL_STOP.sub("", text, count=_MOST_FULL_STOPS)
    words = [DIGITS.get(word, word) for word in text.lower().split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def stripped(answer: str) -> str:
    """An answer without white space around it, tabs and new lines as spaces: what is done to every answer."""
    return answer.replace("\n", " ").replace("\t", " ").strip()


def accuracy(predicted: str, answers: Sequence[str]) -> float:
    """How right an answer is, from 0 to 1.

    With ten answers the official rule: of n people who gave the predicted answer one is left out in n of ten
    comparisons, so that 1, 2, 3 and 4 of them give 0.3, 0.6, 0.9 and 1. With another number of answers min(n / 3, 1):
    leaving one out of easy-VQA's three equal answers would make 2/3 of a right one.

    >>> ten = ["red"] * 3 + ["dark red"] * 7
    >>> accuracy("red", ten), accuracy("Dark red!", ten), accuracy("blue", ten), accuracy("red", ["red"] * 3)
    (0.9, 1.0, 0.0, 1.0)

    Args:
        predicted: the answer.
        answers: what people answered, at least one.

    Raises:
        ValueError: there are no answers.

    Source: see the module.
    """
    if not answers:
        raise ValueError("an answer is compared with what people answered, but there are no answers")
    given, others = stripped(predicted), [stripped(answer) for answer in answers]
    if len(set(others)) > 1:
        given, others = normalise(given), [normalise(answer) for answer in others]
    same = others.count(given)
    if len(others) != PEOPLE:
        return min(same / _ENOUGH, 1.0)
    without_one, with_all = min(same - 1, _ENOUGH), min(same, _ENOUGH)
    return (same * without_one + (PEOPLE - same) * with_all) / (PEOPLE * _ENOUGH)


def by_type(predicted: Sequence[str], answers: Sequence[Sequence[str]], kinds: Sequence[str]) -> dict[str, float]:
    """Mean accuracy over all questions (``all``) and over those of each answer type, in alphabetical order.

    >>> by_type(["yes", "no", "3"], [["yes"], ["yes"], ["3"] * 3], ["yes/no", "yes/no", "number"])["number"]
    1.0

    Args:
        predicted: an answer to each question.
        answers: what people answered to each.
        kinds: answer type of each.

    Raises:
        ValueError: no questions, or not as many of the one as of the other.
    """
    if not predicted or not len(predicted) == len(answers) == len(kinds):
        counts = f"{len(predicted)}, {len(answers)} and {len(kinds)}"
        raise ValueError(
            f"answers are scored for as many questions as there are people's answers and types: {counts}"
        )
    scores = [accuracy(one, people) for one, people in zip(predicted, answers, strict=True)]
    found = {"all": _mean(scores)}
    for kind in sorted(set(kinds)):
        found[kind] = _mean([score for score, own in zip(scores, kinds, strict=True) if own == kind])
    return found


def _mean(scores: Sequence[float]) -> float:
    return sum(scores) / len(scores)
