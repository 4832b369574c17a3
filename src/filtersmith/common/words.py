"""Counts as they are written in a sentence."""

from __future__ import annotations


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """A count with its noun, thousands with commas; ``nouns`` where an s is not enough.

    >>> plural(1, "epoch"), plural(0, "seed"), plural(1797, "image"), plural(2, "class", "classes")
    ('1 epoch', '0 seeds', '1,797 images', '2 classes')
    """
    return f"{count:,} {in_number(count, noun, nouns)}"


def in_number(count: int, noun: str, nouns: str | None = None) -> str:
    """The noun that goes with a count, where the count itself is not written.

    >>> in_number(1, "seed"), in_number(2, "seed")
    ('seed', 'seeds')
    """
    return noun if count == 1 else nouns or f"{noun}s"
