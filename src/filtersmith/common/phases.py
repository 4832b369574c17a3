"""From a step to its phase: arithmetic on whole numbers, nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal


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
