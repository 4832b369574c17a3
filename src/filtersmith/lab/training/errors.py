"""How a run may end other than well. A wrong input is a plain ``ValueError``."""

from __future__ import annotations

TIME_LIMIT = 75
"""Exit code of a command that stopped because its time was up (``EX_TEMPFAIL``: try again)."""


class RunFailed(RuntimeError):  # noqa: N818  # it names what happened, as in the tables
    """A run that could not be finished (a loss that is not finite, memory that ran out), in one line."""


class Interrupted(Exception):  # noqa: N818
    """A run that was asked to stop and has written a checkpoint.

    ``signal`` is the number of the signal; 0 where the time limit was over.
    """

    def __init__(self, signal: int, message: str) -> None:
        super().__init__(message)
        self.signal = signal

    @property
    def code(self) -> int:
        """The exit code of the command."""
        return 128 + self.signal if self.signal else TIME_LIMIT
