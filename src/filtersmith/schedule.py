"""From a step to its phase: arithmetic on whole numbers, nothing else."""

from __future__ import annotations

from collections.abc import Sequence


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
