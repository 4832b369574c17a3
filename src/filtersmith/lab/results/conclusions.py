"""What a comparison shows, and what it leaves open: a few sentences from the intervals and Holm's p.

A method is called better or worse here only where its interval leaves out 0 and Holm's p is below 0.05: in a table of
many methods some interval leaves out 0 by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from filtersmith.common.words import plural
from filtersmith.lab.results.document import Comparison
from filtersmith.lab.results.numbers import points
from filtersmith.lab.results.sentences import detectable, p_value, sentence
from filtersmith.lab.results.statistics import ENOUGH_PAIRS, Difference, Summary
from filtersmith.methods import BASELINE

SURE = 0.05
"""Below this Holm's p is taken for more than chance."""
MOST = 4
"""Methods that a sentence names; the figure has them all."""

Kind = Literal["better", "worse", "doubtful", "open", "no interval"]
Found = Mapping[str, Difference]


@dataclass(frozen=True)
class Conclusions:
    """Sentences: what can be concluded, and what cannot."""

    can: tuple[str, ...]
    cannot: tuple[str, ...]


def conclude(comparison: Comparison, summaries: Sequence[Summary]) -> Conclusions:
    """What the summaries of a comparison say; the methods that differ most come first."""
    others = [summary for summary in summaries if summary.method != BASELINE]
    found = {summary.method: summary.difference for summary in others if summary.difference}
    groups: dict[Kind, dict[str, Difference]] = {}
    for method in sorted(found, key=lambda method: -abs(found[method].mean)):
        groups.setdefault(kind(found[method]), {})[method] = found[method]
    tested = sum(difference.p_holm is not None for difference in found.values())
    unpaired = [summary.method for summary in others if not summary.difference]
    can = tuple(_can(groups, tested)) or ("Nothing yet.",)
    return Conclusions(can, (*_cannot(groups, unpaired), _scope(comparison, len(found))))


def kind(difference: Difference) -> Kind:
    """What may be said of a method.

    >>> kind(Difference(0.01, 0.004, 0.02, (0.01,) * 6, p=0.03, p_holm=0.2))
    'doubtful'
    """
    if difference.low is None or difference.high is None:
        return "no interval"
    if difference.low <= 0 <= difference.high:
        return "open"
    if difference.p_holm is None or difference.p_holm >= SURE:
        return "doubtful"
    return "better" if difference.low > 0 else "worse"


def _can(groups: Mapping[Kind, Found], tested: int) -> Iterator[str]:
    better, worse, near = (groups.get(kind, {}) for kind in ("better", "worse", "open"))
    if better:
        yield f"Better than the baseline: {listed(better, how_much=True)}."
    if worse:
        yield f"Worse than the baseline: {listed(worse, how_much=True)}."
    if sure := len(better) + len(worse):
        corrected = f", corrected for {tested} methods (Holm)," if tested > 1 else ""
        yield f"p{corrected} is below {SURE} for {'each of them' if sure > 1 else 'it'}."
    if near:
        narrowest = dict(sorted(near.items(), key=lambda item: _width(item[1])))
        yield f"No difference beyond these 95% intervals, points: {listed(narrowest, how_much=True)}."


def _cannot(groups: Mapping[Kind, Found], unpaired: Sequence[str]) -> Iterator[str]:
    doubtful, near, unknown = (groups.get(kind, {}) for kind in ("doubtful", "open", "no interval"))
    few = {method: one for method, one in unknown.items() if one.pairs < ENOUGH_PAIRS}
    same = {method: one for method, one in unknown.items() if one.pairs >= ENOUGH_PAIRS}
    if doubtful:
        p = _range([one.p_holm for one in doubtful.values() if one.p_holm is not None], p_value)
        yield f"Whether {listed(doubtful)} {_verb(doubtful, 'differ')} at all: it may be chance (Holm's p {p})."
    if near:
        shown = _range([one.detectable for one in near.values() if one.detectable is not None], detectable)
        verbs = f"{_verb(near, 'help')} or {_verb(near, 'harm')}"
        yield f"Whether {listed(near)} {verbs} by less than these seeds would show ({shown} points)."
    if few:
        yield f"Anything about {listed(few)}: fewer than {ENOUGH_PAIRS} seeds in common with the baseline."
    if same:
        yield f"How sure {listed(same)} {_verb(same, 'are', 'is')}: every seed differs by the same amount."
    if unpaired:
        yield f"Anything about {listed(dict.fromkeys(unpaired))}: no seed in common with a finished baseline."


def _scope(comparison: Comparison, compared: int) -> str:
    best = "Which method is best: each is compared with the baseline, not with the others. " if compared > 1 else ""
    here = f"{comparison.data_title}, {comparison.model}, {plural(comparison.epochs, 'epoch')}"
    return f"{best}What other data, networks or recipes would give: this was {here}."


def listed(methods: Mapping[str, Difference | None], how_much: bool = False) -> str:
    """The first methods by name, and how many more there are.

    >>> listed(dict.fromkeys("abcdef"))
    'a, b, c, d and 2 more'
    """
    named = [f"{method} {_how_much(one)}" if how_much and one else method for method, one in methods.items()]
    *first, last = named if len(named) <= MOST else [*named[:MOST], f"{len(named) - MOST} more"]
    return f"{', '.join(first)} and {last}" if first else last


def _how_much(difference: Difference) -> str:
    """By how much a method is better or worse, or the interval within which it may be either.

    >>> _how_much(Difference(0.0, -0.0581, 0.04, (0.0,) * 6))
    '\N{MINUS SIGN}5.81 to +4.00'
    """
    low, high = difference.low, difference.high
    if low is not None and high is not None and low <= 0 <= high:
        return f"{points(low)} to {points(high)}"
    return f"by {sentence(difference).partition(' by ')[2]}"


def _width(difference: Difference) -> float:
    return 0.0 if difference.low is None or difference.high is None else difference.high - difference.low


def _verb(subjects: Collection[str], several: str, one: str | None = None) -> str:
    return several if len(subjects) > 1 else one or several + "s"


def _range(values: Sequence[float], form: Callable[[float], str]) -> str:
    low, high = form(min(values)), form(max(values))
    return low if low == high else f"{low} to {high}"
