"""The parent's end of one worker: started, told what to do, listened to, ended.

A worker is a new interpreter that imports this package alone. The program that called `compare` is not run again in
it, so that a script needs no ``if __name__ == "__main__"``.
"""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

# The first line, so that a Ctrl-C, which a terminal sends to all, leaves it alone: the parent passes it on.
_CODE = (
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop()); "
    "from filtersmith.lab.jobs.worker import main; main()"
)


class Worker(Protocol):
    """What a pool needs of a worker, wherever it is."""

    number: int

    def tell(self, **order: Any) -> None: ...
    def how_it_ended(self) -> str: ...
    def dismiss(self) -> None: ...
    def kill(self) -> None: ...


class Event(NamedTuple):
    """What a worker said; ``None``: it has ended."""

    worker: Worker
    said: dict[str, Any] | None


class WorkerProcess:
    """One worker; what it says goes to ``events``.

    ``folder``: where it works; by default the current folder.
    """

    def __init__(
        self,
        number: int,
        environment: dict[str, str],
        events: queue.Queue[Event],
        *,
        folder: Path | None = None,
    ) -> None:
        self.number = number
        self.last_words: deque[str] = deque(maxlen=1)
        """The last line that it wrote to stderr."""
        self._events = events
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CODE, json.dumps(sys.path)],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._errors = threading.Thread(target=self._read_errors, args=(self._process.stderr,), daemon=True)
        self._errors.start()
        threading.Thread(target=self._read_reports, args=(self._process.stdout,), daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, **order: Any) -> None:
        """Send an order. Where the worker has ended, that is an event of its own."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()

    def how_it_ended(self) -> str:
        """``was killed by SIGKILL (was there enough memory?)`` or ``ended with exit code 3``."""
        code = self._process.wait()
        if code >= 0:
            return f"ended with exit code {code}" + "".join(f" ({word})" for word in self.last_words)
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"was killed by {name}" + (" (was there enough memory?)" if name == "SIGKILL" else "")

    def dismiss(self) -> None:
        """End it: it has nothing in work, and stops when nobody is there to give orders."""
        assert self._process.stdin is not None
        with suppress(OSError):  # what was still to be said to one that has ended
            self._process.stdin.close()
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """At once, whatever it does; what it has saved stays."""
        self._process.kill()
        self._process.wait()

    def _read_reports(self, stream: IO[str]) -> None:
        for line in stream:
            try:
                said = json.loads(line)
            except ValueError:  # cut off by a kill
                continue
            self._events.put(Event(self, said))
        self._errors.join(timeout=1)  # its last words come first
        self._events.put(Event(self, None))

    def _read_errors(self, stream: IO[str]) -> None:
        for line in stream:
            if line.strip():
                self.last_words.append(line.strip())
                self._events.put(Event(self, {"error output": line.rstrip()}))
