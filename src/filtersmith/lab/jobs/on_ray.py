"""The runs of a comparison on the nodes of a Ray cluster: joined or started, checked, used, left."""

from __future__ import annotations

import logging
import math
import os
import queue
import secrets
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filtersmith.common.options import first_line
from filtersmith.common.words import noun, plural
from filtersmith.lab.jobs.cluster import Cluster
from filtersmith.lab.jobs.pool import Pool, Words
from filtersmith.lab.jobs.process import Event
from filtersmith.lab.jobs.ray_worker import RayWorker, Seat, Shared, missing_here, versions
from filtersmith.lab.recipe.config import TrainOptions
from filtersmith.lab.runs import Planned
from filtersmith.lab.training.progress import Live
from filtersmith.lab.training.stopping import StopRequest

_STORE = 80 * 2**20
"""Bytes of shared memory of a cluster that is started here: only orders and reports go through it."""

_ANSWER = 300.0
"""Seconds in which every node has to say what it lacks: its first process has to start, on a disk that is far."""

_REACH = 20.0
"""Seconds in which the head of a cluster has to answer."""

_WORDS = Words("--engine ray", "more --cpus-per-run or --gpus-per-run leave more memory for each")


@dataclass(frozen=True)
class Node:
    """A living node, and what of it is for runs."""

    name: str
    id: str
    cpus: float
    gpus: float

    def places(self, cpus: float, gpus: float) -> int:
        """How many runs of such shares it takes; one of a part of a GPU lies on a single one."""
        by_cpu = int(self.cpus / cpus + 1e-6)
        if not gpus:
            return by_cpu
        by_gpu = int(self.gpus) * int(1 / gpus + 1e-6) if gpus < 1 else int(self.gpus / gpus)
        return min(by_cpu, by_gpu)


@dataclass(frozen=True)
class OnRay:
    """A cluster that is ready to train runs.

    Attributes:
        shared: what each of its nodes must have.
        cpus, gpus, threads: of a run.
        places: how many runs it takes at a time, as it stands.
    """

    shared: Shared
    cpus: float
    gpus: float
    threads: int
    places: int

    def train(
        self, runs: Sequence[Planned], seen: Mapping[str, Any], live: Live, stop: StopRequest
    ) -> Iterator[Planned]:
        """Train the runs, as many at a time as there are places; yields each that has ended. See `Pool.train`.

        As many workers more as there are places wait for one, so that nodes that join are used.
        """
        import ray

        if not runs:
            return
        seats = ray.remote(Seat).options(
            num_cpus=self.cpus,
            num_gpus=self.gpus,
            max_concurrency=4,  # it hears while it is listened to
            scheduling_strategy="SPREAD",
        )
        first = {
            "config": runs[0].config.model_dump(mode="json"),
            "fingerprint": dict(seen),
            "threads": self.threads,
            "limit": limit(stop),
        }
        needs = f"the cluster has no free place with {in_words(self.cpus, self.gpus)}"

        def start(number: int, events: queue.Queue[Event]) -> RayWorker:
            return RayWorker(number, seats.remote(self.shared, first, self.gpus), events, needs)

        yield from Pool(len(runs), start, live, stop, _WORDS, starting=self.places).train(runs)


def limit(stop: StopRequest) -> list[Any] | None:
    """The time limit by the clock of the calendar, the only one that machines share."""
    if stop.deadline is None:
        return None
    return [stop.deadline.text, time.time() + stop.deadline.at - time.monotonic()]


def in_words(cpus: float, gpus: float) -> str:
    """
    >>> in_words(2, 0.25), in_words(1, 0)
    ('2 CPUs and 0.25 GPU', '1 CPU')
    """
    shares = [(cpus, "CPU"), *([(gpus, "GPU")] if gpus else [])]
    return " and ".join(f"{share:g} {noun(math.ceil(share), what)}" for share, what in shares)


@contextmanager
def on_ray(cluster: Cluster, train: TrainOptions, out: Path, live: Live) -> Iterator[OnRay]:
    """A cluster, joined or started; left, or ended, with the context. ``out`` is the folder of the results.

    Raises:
        ValueError: it cannot be reached, no node has what a run needs, or a node does not see ``out``.
    """
    with _connected(cluster), _marked(out) as shared:
        there = nodes()
        gpus = cluster.gpus_of(train, there=any(node.gpus >= 1 for node in there))
        fit = [node for node in there if node.places(cluster.cpus, gpus)]
        if not fit:
            most = ", ".join(f"{node.name} has {in_words(node.cpus, node.gpus)}" for node in there[:5])
            raise ValueError(f"no node of the Ray cluster has {in_words(cluster.cpus, gpus)} for a run: {most}")
        _check(fit, shared)
        places = sum(node.places(cluster.cpus, gpus) for node in fit)
        live.note(
            f"Ray cluster of {plural(len(there), 'node')}: {plural(places, 'run')} at a time, "
            f"each with {in_words(cluster.cpus, gpus)}"
        )
        yield OnRay(shared, cluster.cpus, gpus, cluster.threads, places)


def nodes() -> list[Node]:
    """Those that are alive."""
    import ray

    return [
        Node(one["NodeManagerHostname"], one["NodeID"], have.get("CPU", 0.0), have.get("GPU", 0.0))
        for one in ray.nodes()
        if one["Alive"] and (have := one["Resources"]) is not None
    ]


@contextmanager
def _connected(cluster: Cluster) -> Iterator[None]:
    # Before ray is imported. Nobody is told that it was used; what a cluster of others tells is its head's affair.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():  # the caller's own, who also ends it
        yield
        return
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        _join(cluster.address)
    finally:
        if main and before is not None:
            signal.signal(signal.SIGTERM, before)  # in place of Ray's, which ends the program
    try:
        with _silent():
            yield
    finally:
        ray.shutdown()


@contextmanager
def _silent() -> Iterator[None]:
    """Without Ray's own pages on lost nodes, which no option of it turns off: the pool says that in a line."""
    from ray._private import worker

    before = getattr(worker, "print_to_stdstream", None)
    worker.print_to_stdstream = lambda *data, **options: None
    try:
        yield
    finally:
        worker.print_to_stdstream = before


def _join(address: str | None) -> None:
    """Join the cluster, or start one on this machine where no other is named and none runs."""
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    named = address or os.environ.get("RAY_ADDRESS")
    try:
        if named != "local":
            _reach(named)
            ray.init(address=named or "auto", **quiet)
            return
    except Exception as error:  # ray has many kinds for it
        if named:
            option = "--ray-address" if address else "RAY_ADDRESS"
            raise ValueError(f"{option} {named} cannot be joined: {first_line(error)}") from error
        if not isinstance(error, ConnectionError):
            raise ValueError(f"the Ray cluster of this machine cannot be joined: {first_line(error)}") from error
    with loopback():
        ray.init(address="local", include_dashboard=False, object_store_memory=_STORE, **quiet)


def _reach(named: str | None) -> None:
    """``OSError`` where nobody listens at ``HOST:PORT``; Ray itself would try for minutes."""
    host, colon, port = (named or "").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH).close()


@contextmanager
def loopback() -> Iterator[None]:
    """Within, a cluster that is started listens to this machine alone, as Ray does by default on some systems."""
    from ray._private import ray_constants

    name = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
    before, own = os.environ.get(name), ray_constants.ENABLE_RAY_CLUSTER
    os.environ[name], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = own
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


@contextmanager
def _marked(out: Path) -> Iterator[Shared]:
    """A file in ``out`` that shows a node whether it sees that folder."""
    token = secrets.token_hex(16)
    marker = out.absolute() / f".cluster-{token[:8]}"
    marker.write_text(token, encoding="utf-8")
    try:
        yield Shared(str(marker.parent), marker.name, token, str(Path.cwd()), versions())
    finally:
        marker.unlink(missing_ok=True)


def _check(there: Sequence[Node], shared: Shared) -> None:
    """``ValueError`` for a node that lacks something, in its own words."""
    import ray
    from ray.exceptions import GetTimeoutError, RayTaskError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ask = ray.remote(missing_here)
    asked = [
        ask.options(
            num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)
        ).remote(shared)
        for node in there
    ]
    end = time.monotonic() + _ANSWER
    for node, answer in zip(there, asked, strict=True):
        try:
            missing = ray.get(answer, timeout=max(1.0, end - time.monotonic()))
        except GetTimeoutError:
            missing = f"the node {node.name} of the Ray cluster did not answer in {_ANSWER:.0f} s"
        except Exception as error:
            cause = error.cause if isinstance(error, RayTaskError) else error
            missing = f"the node {node.name} of the Ray cluster cannot take part: {first_line(cause)}"
        if missing is not None:
            raise ValueError(missing)
