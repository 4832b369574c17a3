"""How a run may end other than well. A wrong input is a plain ``ValueError``."""

from __future__ import annotations


class RunFailed(RuntimeError):  # noqa: N818  # it names what happened, as in the tables
    """A run that could not be finished (a loss that is not finite, memory that ran out), in one line."""


class Interrupted(Exception):  # noqa: N818
    """A run that was asked to stop and has written a checkpoint; ``signal`` is the number of the signal."""

    def __init__(self, signal: int, message: str) -> None:
        super().__init__(message)
        self.signal = signal
