"""Runs, one after the other or several at a time, those first that others need; each is yielded as it ends."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

from filtersmith.lab.results.numbers import percent
from filtersmith.lab.runs import Planned
from filtersmith.lab.tasks.task import TaskData
from filtersmith.lab.training.errors import Interrupted, RunFailed
from filtersmith.lab.training.progress import Live
from filtersmith.lab.training.run import train
from filtersmith.lab.training.standing import examine
from filtersmith.lab.training.stopping import StopRequest

Ended = Generator[Planned, None, None]
"""Runs, one after the other as they end, finished or failed."""


class Elsewhere(Protocol):
    """What trains runs side by side that are not this machine's processes; see `side_by_side`."""

    def train(
        self, runs: Sequence[Planned], seen: Mapping[str, Any], live: Live, stop: StopRequest
    ) -> Iterator[Planned]: ...


@dataclass(frozen=True)
class Surroundings:
    """What all runs share.

    Attributes:
        data: loaded.
        seen: its fingerprint.
        live: shows progress.
        stop: one for all: a signal between two runs counts, too.
        jobs: so many at a time, each in a process of its own where there are several.
        elsewhere: a cluster that trains them, in place of this machine.
    """

    data: TaskData
    seen: Mapping[str, Any]
    live: Live
    stop: StopRequest
    jobs: int = 1
    elsewhere: Elsewhere | None = None


def train_all(planned: Sequence[Planned], around: Surroundings) -> Ended:
    """Train runs stage by stage; one whose teacher, or other run that it needs, is not finished is left out.

    Raises:
        Interrupted: a signal or the time limit; checkpoints are written.
        ValueError: a run is refused.
    """
    ended = 0
    for _, stage in groupby(planned, key=lambda one: one.stage):
        runs = list(stage)
        able = [one for one in runs if all(examine(need).status == "finished" for need in one.needs)]
        jobs = min(around.jobs, len(able))
        here = jobs <= 1 and around.elsewhere is None
        with closing(_one_by_one(able, around) if here else _at_once(able, around, jobs)) as trained:
            try:
                for one in trained:
                    ended += 1
                    yield one
            except Interrupted as error:
                raise Interrupted(error.signal, f"{error}; {around.live.so_far}") from error
        if around.stop.code:
            break
        ended += len(runs) - len(able)
    if ended < len(planned):
        raise around.stop.interrupted(f"stopped with {around.live.so_far}")


def _one_by_one(planned: Sequence[Planned], around: Surroundings) -> Ended:
    """Train the runs in this process, in their order."""
    live, stop = around.live, around.stop
    for one in planned:
        if stop.code:
            return
        live.begin(one.label)
        skipped = examine(one.folder).status == "finished"
        try:
            result = train(
                one.config,
                one.folder.path,
                around.data,
                resume=True,
                progress=live,
                stop=stop,
                label=one.arm,
                seen=around.seen,
            )
            ending = f"test {percent(result.epochs[-1].test_accuracy)}%"
            live.end(f"{ending} (finished before)" if skipped else ending)
        except RunFailed as error:
            live.end(f"failed: {error}")
        except Interrupted as error:
            raise Interrupted(error.signal, f"{error} ({one.label})") from error
        yield one


def _at_once(planned: Sequence[Planned], around: Surroundings, jobs: int) -> Ended:
    """Train ``jobs`` runs at a time in processes of their own, or as many as a cluster can."""
    from filtersmith.lab.jobs.side_by_side import side_by_side

    # Not what only says so: a damaged one may have to be trained, with a worker's threads.
    finished = {one: examine(one.folder).status == "finished" for one in planned}
    yield from _one_by_one([one for one, done in finished.items() if done], around)
    rest = [one for one, done in finished.items() if not done]
    if around.elsewhere is not None:
        yield from around.elsewhere.train(rest, around.seen, around.live, around.stop)
    else:
        yield from side_by_side(rest, around.seen, around.live, around.stop, jobs=jobs)
