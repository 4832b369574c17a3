"""A worker on a node of a Ray cluster: an actor that holds a share of the node, and in it the process that trains.

The process is that of ``--jobs``: the same code, with the same orders and reports, which the actor passes on. Here
stand both ends: `Seat` is the actor, `RayWorker` what the pool talks to. `Seat` needs no ray by itself.
"""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filtersmith.common.words import one_line
from filtersmith.lab.jobs.process import Event, WorkerProcess
from filtersmith.lab.jobs.shares import environment_of
from filtersmith.lab.training.environment import commit

_POLL = 10.0
"""Seconds after which a seat that has nothing to say is asked again."""

_LONG = 30.0
"""Seconds after which a person is told that there is no place for a worker."""

_BRIEF = 5.0
"""Seconds in which a seat has to end its process before it is ended itself."""


@dataclass(frozen=True)
class Shared:
    """What every node must have.

    Attributes:
        out: the folder of the results.
        marker: the name of a file in it.
        token: what stands in that file.
        folder: where the command runs, from which data and code are named.
        version: what `versions` says.
    """

    out: str
    marker: str
    token: str
    folder: str
    version: str


def versions() -> str:
    """Of what decides about numbers: equal where two nodes may train runs of one comparison."""
    import torch

    import filtersmith

    known = commit()
    own = f"filtersmith {filtersmith.__version__}" + (f" (commit {known})" if known else "")
    return f"{own}, torch {torch.__version__.partition('+')[0]}"


def missing_here(shared: Shared) -> str | None:
    """What this node lacks, in one line; ``None``: nothing."""
    node = f"the node {socket.gethostname()} of the Ray cluster"
    if versions() != shared.version:
        return f"{node} has {versions()}, and this command has {shared.version}"
    try:
        seen = Path(shared.out, shared.marker).read_text(encoding="utf-8") == shared.token
    except (OSError, UnicodeDecodeError):
        seen = False
    if not seen:
        return f"{node} does not see --out {shared.out}: choose a folder that all nodes share, under the same path"
    if not os.path.isdir(shared.folder):
        return f"{node} has no {shared.folder}: run the command in a folder that all nodes share, under the same path"
    return None


class Seat:
    """On a node: a run's share of it, and the process that trains there.

    Args:
        shared: what the node must have; otherwise nothing is started, and that is reported as a refusal.
        first: the worker's first order; its limit is told by the clock of the calendar, as nodes share no other.
        gpus: how many the run has; Ray has said which.
    """

    def __init__(self, shared: Shared, first: dict[str, Any], gpus: float) -> None:
        self._heard: queue.Queue[Event] = queue.Queue()
        self._kept: list[dict[str, Any]] = []
        self._dropped = 0
        self._asked = threading.Lock()
        self._process: WorkerProcess | None = None
        if (missing := missing_here(shared)) is not None:
            self._kept = [{"refused": missing}, {"gone": "was refused"}]
            return
        environment = environment_of(0, first["threads"], [])
        if not gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ""
        if first["limit"] is not None:
            text, at = first["limit"]
            first = {**first, "limit": [text, time.monotonic() + at - time.time()]}
        self._process = WorkerProcess(0, environment, self._heard, folder=Path(shared.folder))
        self._process.tell(**first)

    def said(self, known: int) -> list[dict[str, Any]]:
        """What the worker has said after its first ``known`` reports; waits a while where that is nothing.

        A report is kept until the next call shows that it was received: an answer may be lost on its way.
        """
        with self._asked:
            self._kept = self._kept[known - self._dropped :]
            self._dropped = known
            if not self._kept and self._process is not None:
                with suppress(queue.Empty):
                    self._keep(self._heard.get(timeout=_POLL))
                    while True:
                        self._keep(self._heard.get_nowait())
            return list(self._kept)

    def tell(self, order: dict[str, Any]) -> None:
        if self._process is not None:
            self._process.tell(**order)

    def dismiss(self) -> None:
        if self._process is not None:
            self._process.dismiss()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def _keep(self, event: Event) -> None:
        self._kept.append({"gone": event.worker.how_it_ended()} if event.said is None else event.said)


class RayWorker:
    """The pool's end of a worker on a cluster.

    Args:
        number: of the pool.
        seat: the actor, which may not have a place yet.
        events: where its reports go.
        needs: what it waits for, in words.
    """

    def __init__(self, number: int, seat: Any, events: queue.Queue[Event], needs: str) -> None:
        self.number = number
        self._seat, self._events, self._needs = seat, events, needs
        self._how = "was lost"
        self._known = 0
        self._ears = threading.Thread(target=self._listen, daemon=True)
        self._ears.start()

    def tell(self, **order: Any) -> None:
        """Send an order. Where the worker is lost, that is an event of its own."""
        with suppress(Exception):
            self._seat.tell.remote(order)

    def how_it_ended(self) -> str:
        """``was killed by SIGKILL (was there enough memory?)``, or how its node was lost."""
        return self._how

    def dismiss(self) -> None:
        """End it: it has nothing in work."""
        self._end(self._seat.dismiss)

    def kill(self) -> None:
        """At once, whatever it does; what it has saved stays."""
        self._end(self._seat.kill)

    def _end(self, gently: Any) -> None:
        import ray

        with suppress(Exception):  # it may be lost, with its node or the whole cluster
            if self._known:  # otherwise there may be no place for it yet, and nobody to hear that
                ray.get(gently.remote(), timeout=_BRIEF)
        with suppress(Exception):
            ray.kill(self._seat)
        self._ears.join(timeout=_BRIEF)

    def _listen(self) -> None:
        import ray
        from ray.exceptions import ActorUnavailableError

        while True:
            try:
                said = self._next()
            except ActorUnavailableError:  # the network; whether the actor is lost shows later
                time.sleep(1.0)
                continue
            except Exception as error:
                self._how = lost(error)
                self._events.put(Event(self, None))
                return
            self._known += len(said)
            for one in said:
                if "gone" in one:
                    self._how = one["gone"]
                    with suppress(Exception):
                        ray.kill(self._seat)  # its place is for the next worker
                    self._events.put(Event(self, None))
                    return
                self._events.put(Event(self, one))

    def _next(self) -> list[dict[str, Any]]:
        import ray

        asked = self._seat.said.remote(self._known)
        while True:
            try:
                return ray.get(asked, timeout=_LONG)  # type: ignore[no-any-return]
            except ray.exceptions.GetTimeoutError:
                if not self._known:
                    self._events.put(Event(self, {"waits": f"note: no run is trained yet: {self._needs}"}))


def lost(error: BaseException) -> str:
    """How an actor was lost, in a few words of Ray's many lines."""
    text = one_line(str(error))
    if "node" in text and ("died" in text or "dead" in text):
        return "was lost with its node"
    for line in str(error).splitlines():
        if line.startswith("The actor"):
            return f"was lost: {line.strip()}"
    return f"was lost: {text[:200]}"
