"""Workers of `--jobs` that are forked from their parent, which has imported everything: ten seconds less for each."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

from filtersmith.lab.jobs import process, worker


class Forked:
    """As much of ``subprocess.Popen`` as `WorkerProcess` uses."""

    def __init__(self, command: Any, *, env: dict[str, str], **pipes: Any) -> None:
        (inner_in, outer_in), (outer_out, inner_out), (outer_err, inner_err) = (os.pipe() for _ in range(3))
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            _serve((inner_in, inner_out, inner_err), env)
        for end in (inner_in, inner_out, inner_err):
            os.close(end)
        self.stdin = os.fdopen(outer_in, "w", encoding="utf-8")
        self.stdout, self.stderr = (os.fdopen(end, encoding="utf-8") for end in (outer_out, outer_err))

    def wait(self, timeout: float | None = None) -> int:
        end = None if timeout is None else time.monotonic() + timeout
        while self.returncode is None:
            pid, status = os.waitpid(self.pid, 0 if end is None else os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
            elif end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired("worker", timeout or 0)
            elif end is not None:
                time.sleep(0.01)
        return self.returncode

    def kill(self) -> None:
        if self.returncode is None:
            os.kill(self.pid, signal.SIGKILL)


def _serve(ends: tuple[int, int, int], environment: dict[str, str]) -> None:
    """What the command of a worker does, in a process that closes all files but its own."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for number, end in enumerate(ends):
            os.dup2(end, number)
        os.closerange(3, 1024)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        os.environ.clear()
        os.environ.update(environment)
        worker.main()
        code = 0
    finally:
        os._exit(code)


def use() -> None:
    """From now on, in this process."""
    names = {"Popen": Forked, "PIPE": subprocess.PIPE, "TimeoutExpired": subprocess.TimeoutExpired}
    process.subprocess = SimpleNamespace(**names)  # type: ignore[attr-defined]
