"""One worker as its parent sees it: how it ends, and that a terminal's Ctrl-C is not for it."""

from __future__ import annotations

import os
import queue
import signal
import time

from filtersmith.lab.jobs import process
from filtersmith.lab.jobs.process import Event, WorkerProcess


def test_how_workers_end() -> None:
    """Both are still importing; a Ctrl-C of the terminal, which all processes get, does nothing to them."""
    events: queue.Queue[Event] = queue.Queue()
    killed, dismissed = (WorkerProcess(number, dict(os.environ), events) for number in range(2))
    for number in (signal.SIGINT, signal.SIGKILL):
        time.sleep(0.3)
        os.kill(killed.pid, number)
    dismissed.dismiss()
    ended = {event.worker.number: event.worker.how_it_ended() for event in (events.get(timeout=60), events.get())}
    assert ended == {0: "was killed by SIGKILL (was there enough memory?)", 1: "ended with exit code 0"}
    killed.tell(run={})  # nobody is there any more
    dismissed.kill()


def test_the_last_words_of_a_worker() -> None:
    events: queue.Queue[Event] = queue.Queue()
    before, process._CODE = process._CODE, "import sys; print('no memory', file=sys.stderr); sys.exit(3)"
    try:
        worker = WorkerProcess(0, dict(os.environ), events)
    finally:
        process._CODE = before
    assert [events.get(timeout=30).said for _ in range(2)] == [{"error output": "no memory"}, None]
    assert worker.how_it_ended() == "ended with exit code 3 (no memory)"
