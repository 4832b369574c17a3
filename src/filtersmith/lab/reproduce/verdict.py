"""What our runs say of a published difference: one of five verdicts, by one rule."""

from __future__ import annotations

from dataclasses import dataclass

from filtersmith.common.words import plural
from filtersmith.lab.results.numbers import points
from filtersmith.lab.results.statistics import ENOUGH_PAIRS, Difference

AGREES, DIRECTION, DIFFERS = "agrees", "direction holds", "differs"
CANNOT_TELL, OTHER_DATA = "cannot tell", "not comparable (data)"

RULE = (
    "Verdict: by our 95% interval of the difference (paired t, same seeds) and the paper's difference D, which is "
    "taken as exact. "
    "agrees: it holds D, and not 0. direction holds: it holds neither and lies on D's side of 0. "
    "differs: it does not hold D, and holds 0 or lies on the other side. "
    f"cannot tell: it holds D and 0, or there are fewer than {ENOUGH_PAIRS} seeds. "
    "not comparable (data): the paper has other data. "
    "At a part of the schedule all is said of that part. Intervals and verdicts are not corrected for the number of "
    "rows; Holm's p is."
)
SAME_IMAGES = {"CIFAR-10 (JPEG)": "CIFAR-10"}
"""Copies of a data set, compressed again: their accuracies are not the set's; differences are compared."""


@dataclass(frozen=True)
class Verdict:
    """What is said of a row: one of five words, and ``detail``, which goes on with it."""

    word: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.word} {self.detail}".rstrip()


def verdict(ours: Difference | None, published: float, *, same_data: bool) -> Verdict:
    """The verdict on a row that the paper compares with another one.

    Args:
        ours: of accuracies as fractions, paired by seed; ``None`` where there is none yet.
        published: the paper's difference, likewise as a fraction of 1; better is above 0.
        same_data: whether the paper's data were ours.

    >>> seen = Difference(0.02, 0.01, 0.03, (0.02, 0.01, 0.03))
    >>> [str(verdict(seen, d, same_data=True)) for d in (0.025, 0.05, -0.01)]
    ['agrees', 'direction holds', 'differs']
    """
    if not same_data:
        return Verdict(OTHER_DATA)
    if ours is None:
        return _cannot_tell(0, "none has both runs yet")
    if ours.pairs < ENOUGH_PAIRS:
        return _cannot_tell(ours.pairs, f"an interval needs {ENOUGH_PAIRS}")
    if ours.low is None or ours.high is None or ours.detectable is None:
        return _cannot_tell(ours.pairs, "all differ by the same")
    holds, zero = ours.low <= published <= ours.high, ours.low <= 0 <= ours.high
    if holds and zero:
        return _cannot_tell(ours.pairs, f"smallest visible difference {points(ours.detectable)[1:]}")
    if holds:
        return Verdict(AGREES)
    if not zero and (ours.low > 0) == (published > 0) and published != 0:
        return Verdict(DIRECTION)
    return Verdict(DIFFERS)


def _cannot_tell(seeds: int, why: str) -> Verdict:
    return Verdict(CANNOT_TELL, f"with {plural(seeds, 'seed')} ({why})")


def same_data(title: str, published: str) -> bool:
    """Whether differences on a data set may be compared with those on the paper's."""
    return SAME_IMAGES.get(title, title) == published
