"""What a difference says in plain words, decided by its interval alone; the figures that stand beside it.

The figures are those of the tables, percentage points with two decimals, so that words and table agree.
"""

from __future__ import annotations

from filtersmith.common.words import plural
from filtersmith.lab.results.numbers import percent, points
from filtersmith.lab.results.statistics import ENOUGH_PAIRS, Difference

LEAST = "0.01"
"""The smallest figure that two decimals can show."""


def sentence(difference: Difference) -> str:
    """One row of a table in words.

    >>> sentence(Difference(0.008, 0.004, 0.012, (0.007, 0.008, 0.009)))
    'better by 0.40 to 1.20 points'
    """
    if difference.pairs < ENOUGH_PAIRS:
        return "too few seeds to say"
    if difference.low is None or difference.high is None:
        return _without_spread(difference)
    if difference.low <= 0 <= difference.high:
        largest = percent(max(-difference.low, difference.high))
        # Bounds that round to nothing are not nothing.
        return f"no difference larger than {_at_least(largest)} either way"
    word = "better" if difference.low > 0 else "worse"
    least, most = (percent(bound) for bound in sorted(map(abs, (difference.low, difference.high))))
    if float(most) == 0:
        return f"{word} by less than {LEAST} points"
    if float(least) == 0:
        return f"{word} by at most {most} points"
    return f"{word} by {least} to {most} points" if least != most else f"{word} by {most} points"


def _without_spread(difference: Difference) -> str:
    if points(difference.mean) == points(0):
        return "the same in every seed"
    return f"{points(difference.mean)} points in every seed: no interval without a spread"


def _at_least(figure: str) -> str:
    return figure if float(figure) > 0 else LEAST


def pairs_said(difference: Difference, asked: int) -> str:
    """The number of pairs, of how many seeds if some are missing.

    >>> pairs_said(Difference(0.0, None, None, (0.0,)), 1), pairs_said(Difference(0.0, None, None, (0.0,)), 3)
    ('1 pair', '1 of 3 pairs')
    """
    if difference.pairs < asked:
        return f"{difference.pairs} of {plural(asked, 'pair')}"
    return plural(difference.pairs, "pair")


def evidence(difference: Difference, asked: int) -> str:
    """What stands beside the sentence: p, Holm's p, pairs, and the difference that so many seeds would show."""
    parts = [pairs_said(difference, asked)]
    if tested := p_in_words(difference):
        parts.insert(0, tested)
    if difference.detectable is not None:
        parts.append(f"these seeds would show {detectable(difference.detectable)}")
    return "; ".join(parts)


def p_in_words(difference: Difference) -> str:
    """The p of the sign-flip test, and Holm's; empty of fewer seeds than a test needs."""
    if difference.p is None or difference.p_holm is None:
        return ""
    return f"p {p_value(difference.p)}, Holm {p_value(difference.p_holm)}"


def p_value(p: float) -> str:
    """Two decimals, below 0.1 three.

    >>> p_value(0.25), p_value(0.0313), p_value(0.00001)
    ('0.25', '0.031', '<0.001')
    """
    return "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def detectable(difference: float) -> str:
    """In points, never 0: what two decimals cannot show is below the smallest that they can."""
    return _at_least(percent(difference))
