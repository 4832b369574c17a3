"""What the runs of a table say about its claim, and what they leave open: one sentence for each kind of row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from filtersmith.common.words import plural
from filtersmith.lab.reproduce.measured import Measured, Setting
from filtersmith.lab.reproduce.show import numbered
from filtersmith.lab.reproduce.verdict import AGREES, CANNOT_TELL, DIFFERS, DIRECTION, OTHER_DATA
from filtersmith.lab.results.conclusions import SURE, Conclusions, Kind, kind
from filtersmith.lab.results.sentences import detectable
from filtersmith.lab.results.statistics import ENOUGH_PAIRS

DECIDED = {
    AGREES: "The paper's difference is seen here, too (agrees)",
    DIRECTION: "Better or worse as in the paper, but by another amount (direction holds)",
    DIFFERS: "The paper's difference is not seen here (differs)",
}
"""Verdict -> what can be concluded of its rows."""


def conclude(found: Sequence[Measured], setting: Setting) -> Conclusions:
    """What the rows of a table say in a setting."""
    can = (*_decided(found), *_alone(found)) or ("Nothing yet.",)
    return Conclusions(can, (*_undecided(found, setting), *_unseen(found), *_scope(found, setting)))


def _decided(found: Sequence[Measured]) -> Iterator[str]:
    for word, said in DECIDED.items():
        if rows := _with(found, word):
            yield f"{said}: {numbered(rows)}."


def _alone(found: Sequence[Measured]) -> Iterator[str]:
    """What our runs say without the paper."""
    kinds: tuple[Kind, ...] = ("better", "worse")
    for name in kinds:
        if rows := _of_kind(found, name):
            yield (
                f"{name.capitalize()} than the row that it is compared with (the interval leaves out 0, Holm's p is "
                f"below {SURE}): {numbered(rows)}."
            )


def _undecided(found: Sequence[Measured], setting: Setting) -> Iterator[str]:
    if rows := _with(found, CANNOT_TELL):
        yield f"Whether the paper's difference is there in {numbered(rows)}: these seeds cannot tell."
    if rows := _with(found, OTHER_DATA):
        yield f"What the paper's data would give for {numbered(rows)}: this was {setting.data} (not comparable)."
    if rows := [one.row.n for one in found if one.difference is not None and one.published is None]:
        yield f"Whether the paper agrees on {numbered(rows)}: it prints no difference."


def _unseen(found: Sequence[Measured]) -> Iterator[str]:
    """What so many seeds cannot show."""
    if rows := _of_kind(found, "doubtful"):
        yield f"Whether there is any difference in {numbered(rows)}: it may be chance (Holm's p is not below {SURE})."
    if rows := _of_kind(found, "no interval"):
        yield (
            f"How sure the difference of {numbered(rows)} is: there is no interval (fewer than {ENOUGH_PAIRS} seeds, "
            "or every seed differs by the same)."
        )
    shown = {one.row.n: one.difference.detectable for one in found if one.difference is not None}
    sizes = {n: size for n, size in shown.items() if size is not None}
    if sizes:
        least, most = detectable(min(sizes.values())), detectable(max(sizes.values()))
        between = least if least == most else f"{least} to {most}"
        yield (
            f"Differences smaller than {between} points in {numbered(list(sizes))}: these seeds are too few to show "
            "them (80% power)."
        )


def _scope(found: Sequence[Measured], setting: Setting) -> Iterator[str]:
    if setting.scale != 1:
        yield f"What the full schedule would give: this was {setting.scale:g} of it."
    if lacking := sum(one.row.trained and not one.seeds and not one.alike for one in found):
        yield f"Anything about {plural(lacking, 'row')} without a run."


def _with(found: Sequence[Measured], word: str) -> list[int]:
    return [one.row.n for one in found if one.seeds and one.verdict is not None and one.verdict.word == word]


def _of_kind(found: Sequence[Measured], wanted: Kind) -> list[int]:
    return [one.row.n for one in found if one.difference is not None and kind(one.difference) == wanted]
