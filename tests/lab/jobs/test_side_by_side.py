"""Runs in real processes: the same results as one after another, whatever is killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from reference import forked
from reference.comparing import OPTIONS, assert_equal, begun, compare, comparison
from reference.running import assert_same, command, ended, fork, weights

from filtersmith.lab.jobs.process import WorkerProcess
from filtersmith.lab.recipe.config import CompareConfig
from filtersmith.lab.results import document as results
from filtersmith.lab.results.document import Epoch
from filtersmith.lab.training.folder import RunFolder
from filtersmith.lab.training.progress import Bar, Live

pytestmark = pytest.mark.long


def test_two_at_a_time_equal_one_after_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Although one of the methods fails, and a worker is killed in the third epoch of its run."""
    before = psutil.Process().children()  # the server that new processes are forked from
    pids: dict[str, int] = {}
    told: set[int] = set()
    killed: list[str] = []
    tell = WorkerProcess.tell

    def listen(self: WorkerProcess, **order: Any) -> None:
        if "run" in order:
            pids[f"{order['label']}, seed {order['run']['seed']}"] = self.pid
            told.add(self.pid)
        tell(self, **order)

    class Deadly(Bar):
        def epoch(self, epoch: Epoch) -> None:
            if epoch.epoch == 3 and not killed:
                killed.append(self.label)
                os.kill(pids[self.label], signal.SIGKILL)
            super().epoch(epoch)

    class Watched(Live):
        def bar(self, label: str) -> Bar:
            return Deadly(self, label)

    monkeypatch.setattr(WorkerProcess, "tell", listen)
    what = comparison("baseline wau ortho-loss(weight=1e+38)", 2, epochs=10)
    compare(what, tmp_path / "one", 1)
    found, lines = compare(what, tmp_path / "two", 2, Watched)
    assert_equal(tmp_path / "one", tmp_path / "two")
    assert [run.status for run in found.runs] == ["finished", "finished", "failed"] * 2
    assert [run.alone for run in found.runs] == [False] * 6
    again = f"{killed[0]}: its process was killed by SIGKILL (was there enough memory?); goes on from its checkpoint"
    assert sum(line.startswith(again) for line in lines) == 1
    assert len(told) in (2, 3), "a process trains several runs, and what was killed is replaced"
    assert sorted(line.split("]")[0] for line in lines if line.startswith("[")) == [f"[{n}/6" for n in range(1, 7)]
    assert len([line for line in lines if "failed: loss is nan in epoch 1" in line]) == 2
    assert psutil.Process().children() == before


def jobs_command(out: Path, what: CompareConfig) -> None:
    """A command with a process group of its own, as a shell gives it; its workers are forked."""
    os.setsid()
    forked.use()
    arguments = ["compare", "--jobs", "2", "--out", str(out), "--methods", ",".join(what.methods), "--seeds", "1"]
    for name, value in {**OPTIONS, "train.epochs": what.train.epochs}.items():
        arguments += ["--set", f"{name}={value}"]
    command(*arguments)


def test_when_the_parent_is_killed_or_stopped_all_stop_with_checkpoints(tmp_path: Path) -> None:
    what = comparison("baseline wau", 1, epochs=24)
    out = tmp_path / "out"

    parent = fork(jobs_command, out, what)
    begun(out)
    workers = psutil.Process(parent.pid).children()
    parent.kill()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive, "no orphan trains on"
    folders = [RunFolder(path.parent) for path in out.glob("runs/*/*/manifest.json")]
    states = [folder.read_manifest()["status"] for folder in folders]
    assert "interrupted" in states
    assert set(states) <= {"interrupted", "finished"}, "each has written a checkpoint and said so"

    step = begun(out)
    parent = fork(jobs_command, out, what)
    begun(out, step)
    workers = psutil.Process(parent.pid).children()
    os.killpg(parent.pid, signal.SIGINT)  # as a terminal does
    assert ended(parent, limit=120) == 130
    assert not psutil.wait_procs(workers, timeout=5)[1]
    assert "interrupted" in [run.status for run in results.load(out).runs]

    compare(what, out, 1)
    compare(what, tmp_path / "whole", 1)
    one, other = (results.load(path) for path in (out, tmp_path / "whole"))
    for run in one.runs:
        assert_same(
            weights(out / "runs" / run.method / "seed-0"), weights(tmp_path / "whole/runs" / run.method / "seed-0")
        )
    assert [run.status for run in one.runs] == [run.status for run in other.runs] == ["finished"] * 2
