"""The networks of the sweep, and all that is checked of each."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from benchmarks.sweep import branching, families, leaving_out, odd
from benchmarks.sweep.children import CANNOT, START, Found
from benchmarks.sweep.outcome import Outcome, Row, judge
from benchmarks.sweep.subject import Subject, control

CHECKS = {
    "looked": leaving_out.looked_at,
    "sub": leaving_out.sub_network,
    "restored": leaving_out.restored,
    "pruned": leaving_out.pruned,
    "ranked": leaving_out.ranked,
    **{name: functools.partial(branching.expanded, method=name) for name in branching.METHODS},
    "shared": branching.shared,
}
"""Column -> check."""


def every(device: str) -> Iterator[Subject]:
    """All networks: our own, one of each family of torchvision and of timm."""
    yield from odd.every(device)
    yield from families.every(device)


def left_out() -> Iterator[Row]:
    """The families of which no network is tried, and why."""
    for row in families.listed():
        if "left out" in row:
            yield Row(row["library"], row["family"], cannot=f"left out: {row['left out']}")


def found(subject: Subject) -> Iterator[Found]:
    """How each check of a network ends, or why it cannot be tried here."""
    if cannot := control(subject):
        yield CANNOT, cannot
        return
    for check in CHECKS:
        yield START, check
        yield check, judged(check, subject)


def judged(check: str, subject: Subject) -> Outcome:
    """How one check ends."""
    return judge(lambda: CHECKS[check](subject))
