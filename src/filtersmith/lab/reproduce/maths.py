"""The versions of the mathematics that a run depends on: runs of different ones do not stand in one table."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from filtersmith.methods import METHODS
from filtersmith.methods.spelling import read

TRAINING = 1
"""Raised when the laboratory's training, its schedules, augmentation or networks compute something else than before.
`Method.maths` is the number of a method."""


def maths_of(spec: Mapping[str, Any]) -> dict[str, int]:
    """Of an `Arm.spec`: the version of the training and of each method, also of what is trained before.

    Raises:
        ValueError: a method that is not installed.
    """
    found = {"training": TRAINING}
    found |= {name: METHODS[name].maths for name in _methods_in(spec["method"])}
    for name in ("teacher", "begins_with", "pretrained"):
        if spec.get(name):
            found |= maths_of(spec[name])
    if spec.get("generations", 1) > 1 or spec.get("teacher"):
        found["kd"] = METHODS["kd"].maths
    return dict(sorted(found.items()))


@cache
def _methods_in(text: str) -> tuple[str, ...]:
    """Their names; a ledger has few texts and many runs."""
    return tuple(one.name for one in read(text))
