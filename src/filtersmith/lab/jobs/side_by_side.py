"""The runs of a comparison, several at a time: what each worker gets of the machine and is told first."""

from __future__ import annotations

import os
import queue
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from filtersmith.lab.jobs.pool import Pool
from filtersmith.lab.jobs.process import Event, WorkerProcess
from filtersmith.lab.jobs.shares import environment_of, threads_each, visible_gpus
from filtersmith.lab.recipe.config import RunConfig
from filtersmith.lab.runs import Planned
from filtersmith.lab.training.progress import Live
from filtersmith.lab.training.stopping import StopRequest


def side_by_side(
    runs: Sequence[Planned], seen: Mapping[str, Any], live: Live, stop: StopRequest, *, jobs: int
) -> Iterator[Planned]:
    """Train ``jobs`` runs at a time, each in a process; yields each that has ended, whoever ends first.

    ``seen`` is the fingerprint of the data, which every worker must find, too. See `Pool.train`. A worker's threads
    depend on ``jobs`` alone, not on how many runs are left, so that a comparison that goes on ends like one that was
    never stopped.
    """
    if not runs:
        return
    config = runs[0].config
    threads = threads_each(torch.get_num_threads(), jobs)
    gpus = _gpus(config)
    if not gpus and jobs > (os.cpu_count() or jobs):
        live.note(f"note: --jobs {jobs} on {os.cpu_count()} processors: more than one run will share each")
    first = {
        "config": config.model_dump(mode="json"),
        "fingerprint": dict(seen),
        "threads": threads,
        "limit": None if stop.deadline is None else [stop.deadline.text, stop.deadline.at],
    }

    def start(number: int, events: queue.Queue[Event]) -> WorkerProcess:
        worker = WorkerProcess(number, environment_of(number, threads, gpus), events)
        worker.tell(**first)
        return worker

    yield from Pool(min(jobs, len(runs)), start, live, stop).train(runs)


def _gpus(config: RunConfig) -> list[str]:
    if config.train.device == "cpu" or not torch.cuda.is_available():
        return []
    torch.cuda.empty_cache()  # of the networks that were built here to be checked
    return visible_gpus(os.environ, torch.cuda.device_count())
