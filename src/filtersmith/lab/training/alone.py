"""Whether a run had the machine to itself: only then its times mean something."""

from __future__ import annotations

import os
import time

OTHERS = 0.05
"""Share of the processors' time that all other processes may use together; above it the machine was shared."""

LEAST = 0.5
"""Seconds below which nothing can be said: the system counts in hundredths."""


class Machine:
    """A watch over the processors, from now on."""

    def __init__(self, *, shared: bool = False) -> None:
        """``shared``: whoever starts the runs knows that others run beside this one."""
        self._shared = shared
        self._start = _now()

    def alone(self) -> bool | None:
        """Whether this process and its children were alone since the watch began; ``None``: nobody can tell."""
        now, start = _now(), self._start
        if self._shared:
            return False
        if now is None or start is None or now[0] - start[0] < LEAST:
            return None
        seconds, busy, own = (after - before for after, before in zip(now, start, strict=True))
        return busy - own < OTHERS * seconds * (os.cpu_count() or 1)


def both(before: bool | None, after: bool | None) -> bool | None:
    """Of two parts of a run, the verdict on both: shared if one was, unknown if one is."""
    if before is False or after is False:
        return False
    return None if before is None or after is None else True


def _now() -> tuple[float, float, float] | None:
    """Seconds: of the clock, of all processors at work, and of this process and its children."""
    try:
        import psutil
    except ImportError:
        return None
    try:
        times = psutil.cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)
        # Linux counts the time of guests in that of users. What a hypervisor gave to other machines (steal) is work
        # of others.
        twice = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
        own = 0.0
        for process in (me := psutil.Process(), *me.children(recursive=True)):
            try:
                own += sum(process.cpu_times()[:4])  # user, system, and those of its children that have ended
            except psutil.NoSuchProcess:
                continue
        return time.monotonic(), sum(times) - idle - twice, own
    except (psutil.Error, OSError, AttributeError, NotImplementedError):
        return None
