"""Who trains what and how all stop, played through with workers that are scripts and no processes."""

from __future__ import annotations

import io
import queue
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from filtersmith.lab.jobs.pool import ATTEMPTS, Pool
from filtersmith.lab.jobs.process import Event
from filtersmith.lab.recipe.config import RunConfig
from filtersmith.lab.runs import Planned
from filtersmith.lab.training.folder import RunFolder
from filtersmith.lab.training.progress import Live
from filtersmith.lab.training.standing import admit
from filtersmith.lab.training.stopping import Deadline, StopRequest

Script = Callable[["Scripted", int], None]
"""What a worker does with a run, by its seed."""


class Scripted:
    """A worker that says at once what its script says."""

    def __init__(self, stage: Stage, number: int, events: queue.Queue[Event]) -> None:
        self.stage, self.number, self._events = stage, number, events
        self.orders: list[dict[str, Any]] = []
        self.end = ""
        stage.started.append(self)
        stage.on_start(self)

    def says(self, **said: Any) -> None:
        self._events.put(Event(self, said))  # type: ignore[arg-type]

    def dies(self) -> None:
        self._events.put(Event(self, None))  # type: ignore[arg-type]

    def tell(self, **order: Any) -> None:
        self.orders.append(order)
        if "run" in order:
            self.stage.begun.append(order["run"]["seed"])
            self.stage.script(self, order["run"]["seed"])
        if "stop" in order:
            self.says(end="interrupted", message="stopped", code=order["stop"])

    def how_it_ended(self) -> str:
        return "was killed by SIGKILL"

    def kill(self) -> None:
        self.end = "killed"

    def dismiss(self) -> None:
        self.end = "dismissed"


def gets_ready(worker: Scripted) -> None:
    worker.says(ready=True)


def finishes(worker: Scripted, seed: int) -> None:
    worker.says(start=1, done=0)
    worker.says(end="finished")


class Stage:
    """A pool of scripted workers, and what happened."""

    def __init__(self, tmp_path: Path, script: Script = finishes, on_start: Any = gets_ready) -> None:
        self.script, self.on_start = script, on_start
        self.out = tmp_path
        self.started: list[Scripted] = []
        self.begun: list[int] = []
        self.stop = StopRequest()
        self.printed = io.StringIO()

    def train(self, runs: int, jobs: int = 2) -> list[int]:
        """The seeds in the order in which their runs ended."""
        live = Live(Console(file=self.printed, width=300), runs)
        pool = Pool(jobs, lambda number, events: Scripted(self, number, events), live, self.stop)  # type: ignore[arg-type, return-value]
        return [one.config.seed for one in pool.train([self.run(seed) for seed in range(runs)])]

    def run(self, seed: int) -> Planned:
        return Planned(RunConfig(method="wau", seed=seed), RunFolder(self.out / str(seed)), "wau", seed)

    @property
    def lines(self) -> list[str]:
        return self.printed.getvalue().splitlines()


def test_every_run_once_by_no_more_workers_than_there_is_work_for(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    assert sorted(stage.train(5, jobs=3)) == stage.begun == list(range(5))
    assert len(stage.started) == 3
    assert {worker.end for worker in stage.started} == {"dismissed"}
    assert [line.split()[0] for line in stage.lines] == [f"[{n}/5]" for n in range(1, 6)]


def test_a_worker_that_is_killed_is_replaced_and_its_run_goes_on(tmp_path: Path) -> None:
    def once(worker: Scripted, seed: int) -> None:
        worker.dies() if seed == 1 and stage.begun.count(1) == 1 else finishes(worker, seed)

    stage = Stage(tmp_path, once)
    assert sorted(stage.train(3)) == [0, 1, 2]
    assert sorted(stage.begun) == [0, 1, 1, 2]
    assert len(stage.started) == 3
    assert "wau, seed 1: its process was killed by SIGKILL; goes on from its checkpoint (2. attempt)" in stage.lines


def test_a_run_whose_worker_is_killed_each_time_has_failed(tmp_path: Path) -> None:
    stage = Stage(tmp_path, lambda worker, seed: worker.dies() if seed == 0 else finishes(worker, seed))
    assert sorted(stage.train(3)) == [0, 1, 2]
    assert stage.begun.count(0) == ATTEMPTS
    result = stage.run(0).result()
    assert result is not None
    assert (result.method, result.seed, result.status) == ("wau", 0, "failed")
    assert (
        result.error
        == f"its process was killed by SIGKILL, {ATTEMPTS} times: fewer --jobs leave more memory for each"
    )
    assert sum("failed: its process was killed" in line for line in stage.lines) == 1


def test_a_run_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    def fails(worker: Scripted, seed: int) -> None:
        match seed:
            case 0:
                worker.says(end="failed", message="loss is nan")
            case 1:
                worker.says(end="broken", message="OutOfMemoryError: 3 GiB")
            case _:
                finishes(worker, seed)

    stage = Stage(tmp_path, fails)
    assert sorted(stage.train(5)) == list(range(5))
    assert len(stage.started) == 3, "only what broke is replaced"
    result = stage.run(1).result()
    assert result is not None
    assert (result.status, result.error) == ("failed", "OutOfMemoryError: 3 GiB")
    broken = stage.run(1)
    assert admit(broken.folder, broken.config, {}, resume=True).status == "begun", "the same call can go on with it"
    assert [line.split("] ")[1] for line in stage.lines if "failed" in line] == [
        "wau, seed 0: failed: loss is nan",
        "wau, seed 1: failed: OutOfMemoryError: 3 GiB",
    ]


def test_a_refusal_stops_the_others_with_a_checkpoint(tmp_path: Path) -> None:
    def refuses(worker: Scripted, seed: int) -> None:
        if seed == 1:
            worker.says(end="refused", message="holds another recipe")

    stage = Stage(tmp_path, refuses)
    with pytest.raises(ValueError, match=r"^wau, seed 1: holds another recipe$"):
        stage.train(4)
    assert stage.begun == [0, 1]
    assert stage.started[0].orders[-1] == {"stop": 75}
    assert {worker.end for worker in stage.started} == {"dismissed"}


def test_other_data_in_a_worker_are_refused(tmp_path: Path) -> None:
    stage = Stage(tmp_path, on_start=lambda worker: worker.says(refused="the data must be the same"))
    with pytest.raises(ValueError, match=r"^the data must be the same$"):
        stage.train(2)
    assert stage.begun == []


def test_a_signal_is_passed_on_and_waited_for(tmp_path: Path) -> None:
    def signalled(worker: Scripted, seed: int) -> None:
        if seed == 0:
            finishes(worker, seed)
        elif len(stage.begun) == 3:
            stage.stop.signal = signal.SIGINT

    stage = Stage(tmp_path, signalled)
    assert stage.train(6) == [0]
    assert stage.begun == [0, 1, 2]
    assert [worker.orders[-1] for worker in stage.started] == [{"stop": 130}] * 2
    assert {worker.end for worker in stage.started} == {"dismissed"}


def test_where_a_worker_is_out_of_time_none_begins_and_the_others_go_on(tmp_path: Path) -> None:
    def out_of_time(worker: Scripted, seed: int) -> None:
        if seed == 1:
            worker.says(end="interrupted", message="time limit", code=75)
            finishes(stage.started[0], 0)

    stage = Stage(tmp_path, out_of_time)
    stage.stop.deadline = Deadline("1h", 1e12)
    assert stage.train(4) == [0]
    assert stage.begun == [0, 1]
    assert stage.stop.code == 75
    assert all("stop" not in order for worker in stage.started for order in worker.orders)


def test_one_process_that_somebody_stopped_is_replaced(tmp_path: Path) -> None:
    def stopped(worker: Scripted, seed: int) -> None:
        if stage.begun == [0]:
            worker.says(end="interrupted", message="stopped", code=143)
        else:
            finishes(worker, seed)

    stage = Stage(tmp_path, stopped)
    assert stage.train(1) == [0]
    assert stage.begun == [0, 0]


def test_workers_that_never_get_ready(tmp_path: Path) -> None:
    stage = Stage(tmp_path, on_start=Scripted.dies)
    with pytest.raises(
        RuntimeError, match=r"^a process of --jobs 2 was killed by SIGKILL before it was ready: fewer"
    ):
        stage.train(4)

    def only_the_first(worker: Scripted) -> None:
        if len(stage.started) == 1:
            gets_ready(worker)
            return
        worker.dies()
        if len(stage.started) == 1 + ATTEMPTS:
            finishes(stage.started[0], 0)

    stage = Stage(tmp_path, lambda worker, seed: finishes(worker, seed) if seed else None, only_the_first)
    assert sorted(stage.train(5)) == list(range(5))
    assert sum("before it was ready; goes on with 1" in line for line in stage.lines) == 1


def test_at_once(tmp_path: Path) -> None:
    """A second Ctrl-C: an exception in the middle."""

    def interrupted(worker: Scripted, seed: int) -> None:
        if seed == 1:
            raise KeyboardInterrupt

    stage = Stage(tmp_path, interrupted)
    with pytest.raises(KeyboardInterrupt):
        stage.train(3)
    assert {worker.end for worker in stage.started} == {"killed"}


def test_what_workers_print_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def prints(worker: Scripted, seed: int) -> None:
        worker.says(**{"error output": "UserWarning: slow"})
        worker.says(note="warning: wau: late")
        finishes(worker, seed)

    stage = Stage(tmp_path, prints)
    stage.train(3)
    assert capsys.readouterr() == ("", "UserWarning: slow\n")
    assert stage.lines.count("warning: wau: late") == 1
