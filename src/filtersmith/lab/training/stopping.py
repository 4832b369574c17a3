"""Stopping on request: SIGTERM, Ctrl-C and a time limit are remembered, and asked for at a safe place."""

from __future__ import annotations

import math
import re
import signal
import threading
import time
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any

from filtersmith.common.options import bad_option
from filtersmith.lab.training.errors import TIME_LIMIT, Interrupted

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}
_TIME = re.compile("".join(f"(?:([0-9]+(?:\\.[0-9]+)?){unit})?" for unit in _UNITS))

ENDING = 3.0
"""Seconds kept for what is not measured: the program's start, results, and its end, which with torch takes two."""

SLACK = 1.5
"""What comes may take so many times the longest that was seen of its kind."""

_BYTES_A_SECOND = 1e8


@dataclass(frozen=True)
class Deadline:
    """When the time limit of a command is over, on the clock that all processes of a machine share."""

    text: str
    """The limit as it was typed."""
    at: float
    """Of ``time.monotonic()``."""

    def too_late(self, needed: float = 0.0) -> bool:
        """Whether work of so many seconds, as far as is known, would not be over in time."""
        return time.monotonic() + SLACK * needed + ENDING > self.at


def read_deadline(limit: str | None) -> Deadline | None:
    """The end of a limit that begins now: ``90s``, ``12m``, ``1.5h``, ``1h30m``. ``ValueError`` for all else."""
    if limit is None:
        return None
    match = _TIME.fullmatch(limit.strip())
    numbers = match.groups() if match else ()
    seconds = sum(float(number) * unit for number, unit in zip(numbers, _UNITS.values(), strict=False) if number)
    if not 0 < seconds < math.inf:
        raise bad_option("--time-limit", limit, "a time above 0 in h, m and s, such as 90s, 12m, 1.5h or 1h30m")
    return Deadline(limit.strip(), time.monotonic() + seconds)


class Pace:
    """The most seconds that each piece of a run's work has taken so far."""

    def __init__(self, parameter_bytes: int = 0) -> None:
        self.batch: float = 0.0
        """Of the batches between two looks at the loss."""
        self.evaluation: float = 0.0
        # Until one was written: weights, two moments of the optimizer and a copy, on a slow disk.
        self.checkpoint: float = 4 * parameter_bytes / _BYTES_A_SECOND
        self._image = 0.0
        self._seen = 0

    def batches(self, seconds: float, images: int) -> None:
        """The first ones, which warm up and compile, count only until there are others."""
        self._seen += 1
        self.batch = seconds if self._seen <= 2 else max(self.batch, seconds)
        self._image = seconds / images

    def evaluation_of(self, images: int) -> float:
        """The first one is taken to be as slow as training is."""
        return self.evaluation or self._image * images


class StopRequest:
    """Why a run is asked to stop, if it is.

    While it is entered, the first SIGINT or SIGTERM only sets ``signal``; a second one acts as ever. A ``deadline``
    is asked with `look`, which takes what comes before the next look.
    """

    def __init__(self, deadline: Deadline | None = None) -> None:
        self.signal: int = 0
        self.time_is_up: bool = False
        self.deadline = deadline
        self.longest_setup: float = 0.0
        """Seconds that making a run ready took at most; a run that could do nothing else is not begun."""
        self._before: dict[int, Any] = {}

    @property
    def code(self) -> int:
        """The exit code of a command that stops now; 0: nothing asks for it. A signal comes before the time."""
        return 128 + self.signal if self.signal else TIME_LIMIT if self.time_is_up else 0

    @code.setter
    def code(self, code: int) -> None:
        self.signal = code - 128 if code > 128 else 0
        self.time_is_up = code == TIME_LIMIT

    def look(self, needed: float = 0.0) -> int:
        """The `code`, where the time is up if what comes next, with its checkpoint, takes ``needed`` seconds."""
        if self.deadline is not None and self.deadline.too_late(needed):
            self.time_is_up = True
        return self.code

    def interrupted(self, where: str) -> Interrupted:
        """The error to raise: it says why, and ``where`` the work stopped."""
        limit = f"time limit of {self.deadline.text}: " if self.deadline and self.code == TIME_LIMIT else ""
        return Interrupted(self.signal, f"{limit}{where}")

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python does not deliver signals
            self._before = {number: signal.signal(number, self._remember) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._restore()

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
