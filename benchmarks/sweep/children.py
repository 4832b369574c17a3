"""Things that are swept in processes of their own, a few at a time: one that hangs or dies does not stop the rest."""

from __future__ import annotations

import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from benchmarks.sweep.outcome import Outcome, Row

Found = tuple[str, Outcome | str]
"""A check and how it ends; ``"cannot"`` and why nothing can be tried."""
T = TypeVar("T")
START, CANNOT = "start", "cannot"


class Child:
    """One thing in a process; what it has found so far.

    Args:
        thing: that is swept; has a ``library`` and a ``name``.
        find: gives a check's name before it begins (``"start"``), and how it ended.
        seconds: after which the process is ended.
    """

    def __init__(self, thing: Any, find: Callable[[Any], Iterable[Found]], seconds: float) -> None:
        context = multiprocessing.get_context("fork")
        self.pipe, theirs = context.Pipe(duplex=False)
        self._thing, self._until, self._seconds = thing, time.monotonic() + seconds, seconds
        self._process = context.Process(target=_send, args=(thing, find, theirs))
        self._process.start()
        theirs.close()
        self._found: list[Found] = []

    @property
    def late(self) -> bool:
        return time.monotonic() > self._until

    def read(self) -> bool:
        """Take what has come; whether that was all."""
        try:
            self._found.append(self.pipe.recv())
        except EOFError:
            return True
        return False

    def row(self) -> Row:
        """All that was found; a check that did not come to its end is wrong."""
        self._process.kill() if self.late else self._process.join()
        found: dict[str, Any] = {check: value for check, value in self._found if check != START}
        begun = [str(value) for check, value in self._found if check == START]
        ended = f"not done after {self._seconds:.0f} seconds" if self.late else "its process died"
        cannot = found.pop(CANNOT, "" if begun else f"cannot be run: {ended}")
        found |= {check: Outcome("wrong", ended) for check in begun if check not in found}
        return Row(self._thing.library, self._thing.name, found, cannot)


def rows(
    things: Iterable[T], find: Callable[[T], Iterable[Found]], jobs: int, seconds: float
) -> Iterator[tuple[int, Row]]:
    """The number of each thing and its row, as they come."""
    waiting, running = deque(enumerate(things)), dict[Connection, tuple[int, Child]]()
    while waiting or running:
        while waiting and len(running) < jobs:
            number, thing = waiting.popleft()
            child = Child(thing, find, seconds)
            running[child.pipe] = (number, child)
        ready = wait(list(running), timeout=1)
        for pipe, (number, child) in list(running.items()):
            if (pipe in ready and child.read()) or child.late:
                del running[pipe]
                yield number, child.row()


def _send(thing: Any, find: Callable[[Any], Iterable[Found]], pipe: Connection) -> None:
    for found in find(thing):
        pipe.send(found)
    pipe.close()
