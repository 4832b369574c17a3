"""Phases of WAU rates, as a user gives them or as they follow from a budget of epochs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from filtersmith.common.options import at_least, bad_option, fraction
from filtersmith.common.phases import split
from filtersmith.common.said import warn_user
from filtersmith.common.words import plural


def check_rates(option: str, value: Any) -> None:
    """``ValueError`` unless a value is a list of WAU rates."""
    if not isinstance(value, (list, tuple)) or not value:
        raise bad_option(option, value, "a list with the rate of each phase, for example [0.5,1,0.5]")
    for rate in value:
        fraction("rate", rate)


def checked_phases(phases: Iterable[tuple[float, int]]) -> tuple[tuple[float, int], ...]:
    """Phases of ``(rate, epochs)``; ``ValueError`` where they are none."""
    try:
        checked: Sequence[tuple[float, int]] = tuple((rate, epochs) for rate, epochs in phases)
    except (TypeError, ValueError):
        raise bad_option("phases", phases, "a sequence of (rate, epochs)") from None
    if not checked:
        raise bad_option("phases", [], "at least one (rate, epochs)")
    for rate, epochs in checked:
        fraction("rate", rate)
        at_least(1)("epochs", epochs)
    return tuple(checked)


def phases_in(epochs: int, rates: Sequence[float]) -> list[tuple[float, int]]:
    """A budget of epochs divided evenly over the rates, the longer phases last.

    Where there are fewer epochs than phases, the first ones are left out, which is warned of.

    >>> phases_in(7, [0.5, 1.0, 0.5])
    [(0.5, 2), (1.0, 2), (0.5, 3)]
    """
    if epochs < len(rates):
        warn_user(
            f"{len(rates)} phases need at least {len(rates)} epochs, got {plural(epochs, 'epoch')}: the first phases "
            "are left out"
        )
    return [(rate, length) for rate, length in zip(rates, split(epochs, len(rates)), strict=True) if length]
