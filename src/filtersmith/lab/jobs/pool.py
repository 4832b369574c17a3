"""The parent of several workers: who trains what, what is taken up again, and how all of them stop."""

from __future__ import annotations

import queue
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from filtersmith.lab.jobs.process import Event, Worker
from filtersmith.lab.results.document import Epoch
from filtersmith.lab.results.numbers import percent
from filtersmith.lab.runs import Planned
from filtersmith.lab.training.errors import TIME_LIMIT
from filtersmith.lab.training.progress import Bar, Live
from filtersmith.lab.training.stopping import StopRequest

ATTEMPTS = 3
"""How often a run is begun whose worker is lost each time before an epoch's end; and a worker that is never ready."""

_PATIENCE = 120.0
"""Seconds in which the lost worker of a run may leave its folder: one on a lost node may not be dead yet."""

_LOOK = 0.2
"""Seconds between two looks at signals and the time limit, where no worker says anything."""


@dataclass
class _Task:
    """A run that is to be trained."""

    run: Planned
    attempts: int = 0


@dataclass(frozen=True)
class Words:
    """How messages name what the workers come from, and what helps where they are killed."""

    of: str
    advice: str


@dataclass
class _Worker:
    process: Worker
    ready: bool = False
    task: _Task | None = None
    bar: Bar | None = None


@dataclass
class Pool:
    """Workers, as many as are wanted and useful.

    Args:
        count: how many at most.
        start: makes the worker of a number, whose messages go to a queue, and gives it its first order.
        live: shows progress.
        stop: asked between two messages.
        words: for messages; by default those of ``--jobs``.
        starting: so many workers at most are waited for at a time.
    """

    count: int
    start: Callable[[int, queue.Queue[Event]], Worker]
    live: Live
    stop: StopRequest
    words: Words | None = None
    starting: int | None = None
    _events: queue.Queue[Event] = field(default_factory=queue.Queue)
    _workers: dict[int, _Worker] = field(default_factory=dict)
    _waiting: deque[_Task] = field(default_factory=deque)
    _said: set[str] = field(default_factory=set)
    _failed_starts: int = 0
    _out_of_time: bool = False
    _error: Exception | None = None
    _passed_on: int = 0

    def train(self, runs: Sequence[Planned]) -> Iterator[Planned]:
        """Train them all; yields each that has ended, finished or failed, whoever ends first.

        It ends early where ``stop`` asks for it, when every worker has saved a checkpoint and stopped.

        Raises:
            ValueError: a worker refused a run; the others have stopped with a checkpoint.
            RuntimeError: workers can't be started.
        """
        self._waiting.extend(map(_Task, runs))
        try:
            while self._goes_on():
                self._hand_out()
                try:
                    worker, said = self._events.get(timeout=_LOOK)
                except queue.Empty:
                    continue
                known = self._workers.get(worker.number)
                if known is None or known.process is not worker:  # the last words of one that was ended
                    continue
                ended = self._is_gone(known) if said is None else self._hear(known, said)
                if ended is not None:
                    yield ended
        finally:  # a second Ctrl-C comes here with work going on
            for one in self._workers.values():
                if one.ready and not one.task:
                    one.process.dismiss()
                else:
                    one.process.kill()
            self._workers.clear()
        if self._error is not None:
            raise self._error

    def _goes_on(self) -> bool:
        """Whether there is something to do or to wait for; where all has to stop, the workers are told."""
        busy = [one for one in self._workers.values() if one.task]
        if not self._closing():
            return bool(busy or self._waiting)
        code = self.stop.code or (TIME_LIMIT if self._error else 0)
        if code != self._passed_on:
            self._passed_on = code
            for one in busy:
                one.process.tell(stop=code)
        if not busy and self._out_of_time:
            self.stop.time_is_up = True
        return bool(busy)

    def _closing(self) -> bool:
        """Whether no run is begun any more."""
        return bool(self.stop.look()) or self._out_of_time or self._error is not None

    def _hand_out(self) -> None:
        """A worker for each run that waits, and a run for each worker that is ready."""
        if self._closing():
            return
        for one in self._workers.values():
            if one.ready and one.task is None and self._waiting:
                self._begin(one, self._waiting.popleft())
        starting = sum(not one.ready for one in self._workers.values())
        most = min(len(self._waiting), self.starting or len(self._waiting))
        while len(self._workers) < self.count and starting < most:
            number = min(set(range(self.count)) - self._workers.keys())
            self._workers[number] = _Worker(self.start(number, self._events))
            starting += 1

    def _begin(self, worker: _Worker, task: _Task) -> None:
        run = task.run
        task.attempts += 1
        worker.task, worker.bar = task, self.live.bar(run.label)
        worker.process.tell(
            run=run.config.model_dump(mode="json"),
            out=str(run.folder.path.absolute()),
            label=run.arm,
            patience=_PATIENCE if task.attempts > 1 else 0.0,
        )

    def _hear(self, worker: _Worker, said: dict[str, object]) -> Planned | None:
        """What a worker reports; the run, where it has ended with it."""
        bar = worker.bar
        match said:
            case {"ready": True}:
                worker.ready, self._failed_starts = True, 0
            case {"refused": str(text)}:
                self._error = ValueError(text)
            case {"error output": str(text)}:
                if text not in self._said:  # every worker says the same
                    print(text, file=sys.stderr)
                self._said.add(text)
            case {"note": str(text)}:
                self.live.note(text)
            case {"waits": str(text)} if not any(one.task for one in self._workers.values()):
                self.live.note(text)
            case {"start": int(epochs), "done": int(done)} if bar is not None:
                bar.start(epochs, done)
            case {"batch": int(done), "batches": int(batches)} if bar is not None:
                bar.batch(done, batches)
            case {"epoch": epoch} if bar is not None and worker.task is not None:
                worker.task.attempts = 1  # what gets on is not given up, however often its node is taken away
                bar.epoch(Epoch.model_validate(epoch))
            case {"end": str(how), **rest}:
                return self._has_ended(worker, how, str(rest.get("message", "")), rest.get("code"))
        return None

    def _has_ended(self, worker: _Worker, how: str, message: str, code: object) -> Planned | None:
        task, bar = worker.task, worker.bar
        assert task is not None
        assert bar is not None
        worker.task = worker.bar = None
        match how:
            case "finished":
                result = task.run.result()
                bar.end(f"test {percent(result.epochs[-1].test_accuracy)}%" if result and result.epochs else how)
                return task.run
            case "interrupted":
                bar.stop()
                if code == TIME_LIMIT and not self._error:
                    self._out_of_time = True
                elif not self._closing():  # somebody asked this one process to stop
                    self._retire(worker)
                    return self._again(task, "was asked to stop")
                return None
            case "refused":
                bar.stop()
                self._error = ValueError(f"{task.run.label}: {message}")
                return None
        if how == "broken":
            _mark_failed(task.run, message)
            self._retire(worker)  # whatever it left in its memory, or a GPU's, goes with it
        bar.end(f"failed: {message}")
        return task.run

    def _is_gone(self, worker: _Worker) -> Planned | None:
        """A worker has ended, which nobody asked it to; its run is taken up again, if there is one."""
        del self._workers[worker.process.number]
        how, task = worker.process.how_it_ended(), worker.task
        if worker.bar is not None:
            worker.bar.stop()
        if task is not None:
            if self._closing():
                return None
            return self._again(task, how)
        if not worker.ready and self._error is None:
            self._failed_starts += 1
        if self._failed_starts >= ATTEMPTS:
            self._start_no_more(how)
        return None

    def _start_no_more(self, how: str) -> None:
        """Go on with the workers that there are, if there are any."""
        self._failed_starts = 0
        ready = sum(one.ready for one in self._workers.values())
        text = f"a process of {self._words.of} {how} before it was ready"
        if ready:
            self.count = ready
            self.live.note(f"{text}; goes on with {ready}")
        else:
            self._error = RuntimeError(f"{text}: {self._words.advice}")

    def _again(self, task: _Task, how: str) -> Planned | None:
        label = task.run.label
        if task.attempts < ATTEMPTS:
            self.live.note(f"{label}: its process {how}; goes on from its checkpoint ({task.attempts + 1}. attempt)")
            self._waiting.appendleft(task)
            return None
        message = f"its process {how}, {ATTEMPTS} times: {self._words.advice}"
        _mark_failed(task.run, message)
        self.live.bar(label).end(f"failed: {message}")
        return task.run

    @property
    def _words(self) -> Words:
        return self.words or Words(f"--jobs {self.count}", "fewer --jobs leave more memory for each")

    def _retire(self, worker: _Worker) -> None:
        del self._workers[worker.process.number]
        worker.process.dismiss()


def _mark_failed(run: Planned, message: str) -> None:
    """What the run's own process could not write any more."""
    before = {"method": run.config.method, "seed": run.config.seed, **run.folder.manifest_or_nothing()}
    run.folder.create(run.config)  # it may have ended before; without a configuration nobody could go on with it
    run.folder.write_manifest({**before, "status": "failed", "error": message})
