"""From a step to its phase: arithmetic on whole numbers, nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from filtersmith.common.options import Check, at_least, bad_option, below_one, whole_number

CYCLE_CHECKS: dict[str, Check] = {"s1": at_least(1), "s2": at_least(1), "cycles": at_least(0), "prune": below_one}
"""Options of every cycle: epochs of its full and its sub-network phases, how often, the share that is left out."""
CYCLE_LENGTHS = ("s1", "s2")
"""Those of them that are epochs."""


def phase_at(step: int, lengths: Sequence[int]) -> tuple[int, int]:
    """``(phase, steps into it)`` of a step counted from 0; the step after the last is ``(len(lengths), 0)``.

    >>> [phase_at(s, (2, 1)) for s in range(4)]
    [(0, 0), (0, 1), (1, 0), (2, 0)]
    """
    for phase, length in enumerate(lengths):
        if step < length:
            return phase, step
        step -= length
    return len(lengths), step


def starts(lengths: Sequence[int]) -> tuple[int, ...]:
    """The step at which each phase starts.

    >>> starts((6, 7, 7))
    (0, 6, 13)
    """
    return tuple(sum(lengths[:phase]) for phase in range(len(lengths)))


def split(total: int, parts: int) -> tuple[int, ...]:
    """A budget of ``total`` steps in ``parts`` phases as equal as can be, the longer ones last.

    >>> split(20, 3)
    (6, 7, 7)
    """
    return tuple((total + part) // parts for part in range(parts))


def cycle_event(call: int, s1: int, s2: int, cycles: int) -> Literal["pruned", "restored"] | None:
    """What happens at a call, counted from 1, of a cycle of ``s1`` steps of the full and ``s2`` of the sub-network.

    >>> [cycle_event(call, 3, 2, 1) for call in range(1, 9)]
    [None, None, 'pruned', None, 'restored', None, None, None]
    """
    cycle, within = divmod(call, s1 + s2)
    if within == s1 and cycle < cycles:
        return "pruned"
    return "restored" if within == 0 and 0 < cycle <= cycles else None


def sub_phases(total: int, s1: int, s2: int, cycles: int) -> tuple[tuple[int, int], ...]:
    """``(start, stop)`` of the sub-network's phases in a budget of ``total`` steps, which may cut off the last one.

    >>> sub_phases(100, 20, 10, 3)
    ((20, 30), (50, 60), (80, 90))
    """
    begins = range(s1, min(total, cycles * (s1 + s2)), s1 + s2)
    return tuple((start, min(start + s2, total)) for start in begins)


class Phase(NamedTuple):
    """A part of a training: epochs ``start`` to ``stop``, counted from 0, ``stop`` not included.

    ``name`` is ``"full"`` or ``"sub"`` where a method leaves some of the network out for a while, else its own.
    """

    name: str
    start: int
    stop: int


def cycle_phases(total: int, s1: int, s2: int, cycles: int) -> tuple[Phase, ...]:
    """The phases of a cycle in a budget of ``total`` epochs.

    >>> [tuple(phase) for phase in cycle_phases(8, 3, 2, 1)]
    [('full', 0, 3), ('sub', 3, 5), ('full', 5, 8)]
    """
    subs = sub_phases(total, s1, s2, cycles)
    cuts = [0, *(cut for phase in subs for cut in phase), total]
    phases = [Phase("sub" if n % 2 else "full", a, b) for n, (a, b) in enumerate(pairwise(cuts))]
    return tuple(phase for phase in phases if phase.stop > phase.start)


def fit_cycle(
    epochs: int, useful: int, s1: int | None = None, s2: int | None = None, cycles: int | None = None
) -> tuple[int, int, int]:
    """As `place_cycle`, checked. ``ValueError`` where no epoch of the budget follows the last restore."""
    for option, value, least in (("s1", s1, 1), ("s2", s2, 1), ("cycles", cycles, 0)):
        if value is not None:
            whole_number(option, value, least)
    s1, s2, cycles = place_cycle(epochs, useful, s1, s2, cycles)
    if cycles * (s1 + s2) >= epochs:
        raise bad_option("epochs", epochs, f"above the {cycles * (s1 + s2)} of {cycles} x ({s1} + {s2}) epochs")
    return s1, s2, cycles


def place_cycle(
    epochs: int, useful: int, s1: int | None = None, s2: int | None = None, cycles: int | None = None
) -> tuple[int, int, int]:
    """``s1``, ``s2`` and ``cycles`` of a cycle, those left open in proportion to the budget (a fifth, a tenth, 3).

    Args:
        epochs: the budget.
        useful: epochs after which what comes back can still be trained; the last restore is placed there or before,
            where what was given allows it.

    >>> place_cycle(100, 99)
    (20, 10, 3)
    >>> place_cycle(100, 79)
    (17, 9, 3)
    """
    first: tuple[int, int, int] | None = None
    for budget in range(max(epochs, 2), 1, -1):
        full = max(1, round(budget / 5)) if s1 is None else s1
        sub = max(1, round(budget / 10)) if s2 is None else s2
        times = min(3, max(1, (budget - 1) // (full + sub))) if cycles is None else cycles
        if times * (full + sub) <= min(useful, epochs - 1):
            return full, sub, times
        first = first or (full, sub, times)
    assert first is not None, "the budget is at least 2"
    return first
