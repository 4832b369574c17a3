"""A worker's ears and mouth; what it trains, `test_side_by_side` shows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
from reference.running import config, digits

from filtersmith.lab.data.fingerprint import fingerprint
from filtersmith.lab.jobs.worker import Orders, Reports, _answer, _get_ready
from filtersmith.lab.training import run
from filtersmith.lab.training.errors import Interrupted, RunFailed
from filtersmith.lab.training.stopping import StopRequest


def line() -> tuple[IO[str], IO[str]]:
    """The two ends of a pipe."""
    read, write = os.pipe()
    return os.fdopen(read, "r"), os.fdopen(write, "w", buffering=1)


def within(seconds: float, done: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        time.sleep(0.01)
    return done()


def test_an_order_to_stop_is_heard_during_a_run_and_so_is_the_end_of_the_parent() -> None:
    (ears, parent), stop = line(), StopRequest()
    orders = Orders(ears, stop)
    parent.write(json.dumps({"run": {}, "out": "a"}) + "\n")
    assert orders.next()["out"] == "a"
    assert stop.code == 0
    parent.write('{"stop": 130}\n')
    assert within(5, lambda: stop.signal == signal.SIGINT)
    parent.write('{"stop": 75}\n')
    assert within(5, lambda: stop.time_is_up and stop.signal == 0)
    parent.close()
    assert within(5, lambda: stop.signal == signal.SIGTERM)


def test_the_next_run_may_be_ordered_before_the_last_one_is_marked_as_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the end of the parent stops it with a checkpoint, as any other."""
    exits: list[int] = []
    monkeypatch.setattr(os, "_exit", exits.append)
    (ears, parent), stop = line(), StopRequest()
    orders = Orders(ears, stop)
    parent.write('{"run": {}, "out": "a"}\n{"run": {}, "out": "b"}\n{"stop": 75}\n')
    assert within(5, lambda: stop.time_is_up)
    stop.time_is_up = False
    assert orders.next()["out"] == "a"
    orders.done()
    parent.close()
    assert within(5, lambda: stop.signal == signal.SIGTERM)
    assert not exits


def test_a_worker_that_has_nothing_in_work_ends_with_its_parent() -> None:
    code = (
        "import sys, time\n"
        "from filtersmith.lab.jobs.worker import Orders\n"
        "from filtersmith.lab.training.stopping import StopRequest\n"
        "orders = Orders(sys.stdin, StopRequest())\n"
        "orders.next()\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write('{"config": {}}\n')
        worker.stdin.flush()
        assert worker.stdout.readline() == "ready\n"
        worker.stdin.close()
        assert worker.wait(10) == 0


def test_reports_of_batches_are_few_and_one_to_nobody_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    (parent, mouth), stop = line(), StopRequest()
    reports = Reports(mouth, stop)
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    for number in range(1, 51):
        reports.batch(number, 50)
    said = [json.loads(parent.readline()) for _ in range(2)]
    assert said == [{"batch": 1, "batches": 50}, {"batch": 50, "batches": 50}]
    assert stop.code == 0
    parent.close()
    reports.note("nobody hears it")
    assert stop.signal == signal.SIGTERM


def test_other_data_than_the_parents_are_refused() -> None:
    parents = fingerprint(digits())
    first = {"config": config().model_dump(mode="json"), "fingerprint": parents, "threads": 1, "limit": None}
    assert len(_get_ready(first).train) == len(digits().train)
    first["config"]["data"]["limit"] = 100
    with pytest.raises(ValueError, match=r"^the data must be the same in every process that --jobs starts: .* 100 "):
        _get_ready(first)


def test_how_a_run_ended_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(error: Exception) -> dict[str, Any]:
        def fails(*_: Any, **__: Any) -> None:
            raise error

        monkeypatch.setattr(run, "train", fails)
        order = {"run": config().model_dump(mode="json"), "out": str(tmp_path), "label": "baseline"}
        (_, mouth), stop = line(), StopRequest()
        return _answer(order, digits(), {}, Reports(mouth, stop), stop)

    memory = RunFailed("out of memory")
    memory.__cause__ = RuntimeError()
    assert answer(RunFailed("loss is nan")) == {"end": "failed", "message": "loss is nan"}
    assert answer(memory) == {"end": "broken", "message": "out of memory"}
    assert answer(ValueError("no\nmore")) == {"end": "refused", "message": "no"}
    assert answer(OSError(28, "No space left")) == {"end": "broken", "message": "OSError: [Errno 28] No space left"}
    assert answer(Interrupted(2, "stopped")) == {"end": "interrupted", "message": "stopped", "code": 130}
