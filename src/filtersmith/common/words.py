"""Counts as they are written in a sentence, and texts in one line."""

from __future__ import annotations


def noun(count: int, one: str, several: str | None = None) -> str:
    """The noun of so many, where their number stands elsewhere.

    >>> noun(1, "seed"), noun(3, "seed")
    ('seed', 'seeds')
    """
    return one if count == 1 else several or one + "s"


def plural(count: int, one: str, several: str | None = None) -> str:
    """A count with its noun, thousands with commas; ``several`` where an s is not enough.

    >>> plural(1, "epoch"), plural(0, "seed"), plural(1797, "image"), plural(2, "class", "classes")
    ('1 epoch', '0 seeds', '1,797 images', '2 classes')
    """
    return f"{count:,} {noun(count, one, several)}"


def one_line(text: str) -> str:
    """A text in one line, with one space where lines were broken.

    >>> one_line(" no\\n  more ")
    'no more'
    """
    return " ".join(text.split())


def in_words(error: BaseException) -> str:
    """All of an error's message in one line, or its kind where it has none."""
    return one_line(str(error)) or type(error).__name__
