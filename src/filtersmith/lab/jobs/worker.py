"""A worker: trains the runs that it is told to, one after the other, and reports.

Orders come as lines of JSON on stdin: first ``{"config", "fingerprint", "threads", "limit"}``, then runs as
``{"run", "out", "label", "patience"}``, and ``{"stop": exit code}`` while one is trained. Where stdin ends, the
parent is gone: a run in work stops with a checkpoint, as after SIGTERM. Reports go to what was stdout; whatever the
libraries print goes to stderr.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from filtersmith.common.options import first_line
from filtersmith.lab.results.document import Epoch
from filtersmith.lab.training.errors import Interrupted, RunFailed
from filtersmith.lab.training.stopping import Deadline, StopRequest

_OFTEN = 0.1
"""Seconds between two reports of batches."""


def main() -> None:
    """Serve until there are no more orders."""
    stop = StopRequest()
    orders, reports = Orders(_private(0, "r"), stop), Reports(_private(1, "w"), stop)
    first = orders.next()
    try:
        data = _get_ready(first)
    except Exception as error:  # a message of one line, whatever it is
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        reports.send(refused=f"{kind}{first_line(error)}")
        return
    if first["limit"] is not None:
        stop.deadline = Deadline(*first["limit"])
    signal.signal(signal.SIGTERM, lambda number, frame: setattr(stop, "signal", number))
    reports.send(ready=True)
    while True:
        order = orders.next()
        reports.send(**_answer(order, data, first["fingerprint"], reports, stop))
        orders.done()


def _get_ready(first: dict[str, Any]) -> Any:
    """torch with its share of the threads, and the data; ``ValueError`` where they are not the parent's."""
    import torch

    from filtersmith.lab.data.fingerprint import difference
    from filtersmith.lab.recipe.config import RunConfig
    from filtersmith.lab.training.run import fingerprint, load_data

    torch.set_num_threads(first["threads"])
    config = RunConfig.model_validate(first["config"])
    data = load_data(config)
    if other := difference(first["fingerprint"], fingerprint(config, data)):
        raise ValueError(f"the data must be the same in every process that --jobs starts: {other}")
    return data


def _answer(
    order: dict[str, Any], data: Any, seen: dict[str, Any], reports: Reports, stop: StopRequest
) -> dict[str, Any]:
    """Train one run; how it ended."""
    from filtersmith.lab.recipe.config import RunConfig
    from filtersmith.lab.training.run import train

    config, out, label = RunConfig.model_validate(order["run"]), Path(order["out"]), order["label"]
    try:
        _wait_for(out, order.get("patience", 0.0), stop)
        train(config, out, data, resume=True, progress=reports, stop=stop, label=label, seen=seen, shared=True)
    except Interrupted as error:
        return {"end": "interrupted", "message": str(error), "code": error.code}
    except RunFailed as error:
        # A loss that is not finite leaves this process as it was; what else may have gone wrong does not.
        sound = error.__cause__ is None or isinstance(error.__cause__, RunFailed)
        return {"end": "failed" if sound else "broken", "message": str(error)}
    except ValueError as error:
        return {"end": "refused", "message": first_line(error)}
    except Exception as error:  # outside of training, where all is caught: the memory of a GPU, a full disk
        return {"end": "broken", "message": f"{type(error).__name__}: {first_line(error)}"}
    return {"end": "finished"}


def _wait_for(folder: Path, patience: float, stop: StopRequest) -> None:
    """Until nobody else works in the folder, for so many seconds at most; who then is there, `train` says."""
    from filtersmith.lab.training.locking import refuse_locked

    end = time.monotonic() + patience
    while time.monotonic() < end and not stop.look():
        try:
            refuse_locked(folder)
        except ValueError:
            continue  # that has waited a second
        return


class Orders:
    """The parent's orders, read in a thread of their own, so that one to stop is heard during a run."""

    def __init__(self, stream: IO[str], stop: StopRequest) -> None:
        self._stop = stop
        self._waiting: queue.Queue[dict[str, Any]] = queue.Queue()
        # Counted, not flagged: the next run may be ordered before this one is marked as done.
        self._in_work = 0
        self._counting = threading.Lock()
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def next(self) -> dict[str, Any]:
        """The next one, whenever it comes."""
        return self._waiting.get()

    def done(self) -> None:
        """What was ordered is done, and said."""
        with self._counting:
            self._in_work -= 1
        if self._stop.signal:  # the parent may be gone
            os._exit(0)

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            order = json.loads(line)
            if "stop" in order:
                self._stop.code = order["stop"]
            else:
                with self._counting:
                    self._in_work += "run" in order
                self._waiting.put(order)
        if not self._in_work:
            os._exit(0)  # at once, also in the middle of an import or of loading the data
        self._stop.signal = signal.SIGTERM


class Reports:
    """What the parent is told; as a `Progress`, how far a run is."""

    def __init__(self, stream: IO[str], stop: StopRequest) -> None:
        self._stream, self._stop = stream, stop
        self._last = 0.0
        # What a run forks, to read images, must not keep the line open when this process is killed.
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=lambda: os.close(stream.fileno()))

    def send(self, **report: Any) -> None:
        try:
            self._stream.write(json.dumps(report) + "\n")
            self._stream.flush()
        except OSError:  # the parent is gone
            self._stop.signal = signal.SIGTERM

    def note(self, text: str) -> None:
        self.send(note=text)

    def start(self, epochs: int, done: Sequence[Epoch]) -> None:
        self.send(start=epochs, done=len(done))

    def batch(self, done: int, batches: int) -> None:
        now = time.monotonic()
        if done == batches or now - self._last >= _OFTEN:
            self._last = now
            self.send(batch=done, batches=batches)

    def epoch(self, epoch: Epoch) -> None:
        self.send(epoch=epoch.model_dump(mode="json"))


def _private(number: int, mode: str) -> IO[str]:
    """This process's stdin or stdout, for nobody else in it: a library that prints must not disturb the line."""
    stream = os.fdopen(os.dup(number), mode, encoding="utf-8")
    other = os.open(os.devnull, os.O_RDONLY) if number == 0 else os.dup(2)
    os.dup2(other, number)
    os.close(other)
    return stream
