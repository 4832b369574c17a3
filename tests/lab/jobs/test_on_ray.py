"""Runs on the nodes of a cluster, which all are on this machine: the same results, whatever is lost."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from reference.comparing import OPTIONS, assert_equal, begun, compare, comparison

from filtersmith.lab.jobs import on_ray as module
from filtersmith.lab.jobs.cluster import Cluster
from filtersmith.lab.jobs.on_ray import Node, in_words, loopback, on_ray
from filtersmith.lab.recipe.config import TrainOptions
from filtersmith.lab.results import document as results
from filtersmith.lab.results.document import Epoch
from filtersmith.lab.training.progress import Bar, Live

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
pytest.importorskip("ray")

VISIBLE = "CUDA_VISIBLE_DEVICES"
STORE = 80 * 2**20
QUICK = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}


@contextmanager
def cluster(*nodes: dict[str, Any]) -> Iterator[Any]:
    """A head that takes no runs, and these nodes; all of it ends with the context."""
    from ray.cluster_utils import Cluster as Nodes

    with loopback():
        head = {"num_cpus": 0, "object_store_memory": STORE, "include_dashboard": False, "_system_config": QUICK}
        made = Nodes(initialize_head=True, head_node_args=head)
        try:
            made.of = [made.add_node(object_store_memory=STORE, **node) for node in nodes]
            made.wait_for_nodes()
            yield made
        finally:
            made.shutdown()


def pid_of(out: Path, label: str) -> int:
    """The process that trains a run, as its own folder names it."""
    arm, seed = re.fullmatch(r"(.*), seed (\d+)", label).groups()  # type: ignore[union-attr]
    return int((out / "runs" / arm / f"seed-{seed}" / ".lock").read_text().split()[1])


class Watched(Live):
    """Remembers what bars show, and calls ``at_epoch`` after each epoch of a run."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.began: list[tuple[str, int]] = []
        self.active: set[str] = set()

    def bar(self, label: str) -> Bar:
        live = self

        class Own(Bar):
            def start(self, epochs: int, done: int) -> None:
                live.began.append((label, done))
                live.active.add(label)
                super().start(epochs, done)

            def epoch(self, epoch: Epoch) -> None:
                super().epoch(epoch)
                live.at_epoch(label, epoch.epoch)

            def stop(self) -> None:
                live.active.discard(label)
                super().stop()

        return Own(self, label)

    def at_epoch(self, label: str, number: int) -> None: ...


# --- what a node takes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "share", "places"),
    [
        ((8, 0), (1, 0), 8),
        ((8, 0), (3, 0), 2),
        ((2, 0), (0.1, 0), 20),
        ((8, 0), (1, 1), 0),
        ((8, 2), (1, 0.25), 8),
        ((8, 2), (1, 0.4), 4),  # two lie on each, and none on both
        ((8, 4), (1, 2), 2),
        ((1, 4), (2, 1), 0),
    ],
)
def test_places_on_a_node(node: tuple[float, float], share: tuple[float, float], places: int) -> None:
    assert Node("a", "1", *node).places(*share) == places


def test_shares_in_words() -> None:
    assert in_words(2, 0.25) == "2 CPUs and 0.25 GPU"
    assert in_words(0.5, 2) == "0.5 CPU and 2 GPUs"


# --- on clusters of this machine -------------------------------------------------------------------------


@pytest.mark.long
def test_a_killed_process_a_lost_node_and_a_run_that_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others equal those that were trained one after another, bit for bit."""
    lost: list[tuple[str, int]] = []
    out = tmp_path / "ray"

    class Deadly(Watched):
        def at_epoch(self, label: str, number: int) -> None:
            began[:] = self.began
            if number < 3 or len(lost) == 2 or label in dict(lost):
                return
            process = psutil.Process(pid_of(out, label))
            lost.append((label, number))
            if len(lost) == 1:
                process.send_signal(signal.SIGKILL)
                return
            above = {parent.pid for parent in process.parents()}
            (its,) = [node for node in nodes.of if node.all_processes["raylet"][0].process.pid in above]
            nodes.remove_node(its, allow_graceful=False)

    began: list[tuple[str, int]] = []
    what = comparison("baseline wau ortho-loss(weight=1e+38)", 2, epochs=12, **{"data.limit": 400})
    compare(what, tmp_path / "one")
    with cluster({"num_cpus": 1}, {"num_cpus": 1}) as nodes:
        found, lines = compare(what, out, kind=Deadly, cluster=Cluster(nodes.address))
    assert_equal(tmp_path / "one", out)
    assert [run.status for run in found.runs] == ["finished", "finished", "failed"] * 2
    assert [run.alone for run in found.runs] == [False] * 6
    (killed, _), (moved, _) = lost
    again = "goes on from its checkpoint (2. attempt)"
    killed_so = "its process was killed by SIGKILL (was there enough memory?)"
    assert f"{killed}: {killed_so}; {again}" in lines
    assert f"{moved}: its process was lost with its node; {again}" in lines
    for label in (killed, moved):
        first, second = (done for name, done in began if name == label)
        assert first == 0
        assert second >= 2, "not from the start"
    assert "Ray cluster of 3 nodes: 2 runs at a time, each with 1 CPU" in lines
    assert len([line for line in lines if "failed: loss is nan in epoch 1" in line]) == 2
    assert not list(out.glob(".cluster-*"))
    assert "raylet" not in capsys.readouterr().out, "nothing of Ray's own"


@pytest.mark.long
def test_four_runs_share_a_gpu_that_is_declared(tmp_path: Path) -> None:
    """Which is none: they find no CUDA, and train on the CPU."""
    seen: list[tuple[int, float, set[str]]] = []
    since: list[float] = []
    out = tmp_path / "out"

    class EnoughSeenError(Exception):
        pass

    class Looking(Watched):
        def at_epoch(self, label: str, number: int) -> None:
            import ray

            if len(self.active) >= 4:
                visible = {psutil.Process(pid_of(out, one)).environ().get(VISIBLE, "") for one in self.active}
                seen.append((len(self.active), ray.available_resources().get("GPU", 0.0), visible))
                since.append(time.monotonic())
            if since and time.monotonic() > since[0] + 20:  # in which a fifth would have begun
                raise EnoughSeenError

    options = {"data.limit": 400, "train.device": "auto"}
    what = comparison("baseline wau", 3, epochs=20_000, **options)
    with cluster({"num_cpus": 6, "num_gpus": 1}) as nodes:
        with pytest.raises(EnoughSeenError):
            compare(what, out, kind=Looking, cluster=Cluster(nodes.address, 1, 0.25))
        assert {count for count, _, _ in seen} == {4}, "and never a fifth"
        assert {free for _, free, _ in seen} == {0.0}
        assert {name for _, _, names in seen for name in names} == {"0"}
        shares = {"64 CPUs and 1 GPU": Cluster(nodes.address, 64), "1 CPU and 2 GPUs": Cluster(nodes.address, 1, 2)}
        for words, wanted in shares.items():
            with pytest.raises(ValueError, match=rf"^no node of the Ray cluster has {words} for a run: "):
                compare(comparison("baseline", 4, 1, **options), tmp_path / "other", cluster=wanted)


@pytest.mark.long
def test_ctrl_c_ends_all_with_checkpoints_and_processes_go_on_from_them(tmp_path: Path) -> None:
    what, out = comparison("baseline wau", 1, epochs=16, **{"data.limit": 400}), tmp_path / "out"
    arguments = [sys.executable, "-m", "filtersmith", "compare", "--engine", "ray", "--out", str(out)]
    arguments += ["--methods", "baseline,wau", "--seeds", "1"]
    for name, value in {**OPTIONS, "data.limit": 400, "train.epochs": 16}.items():
        arguments += ["--set", f"{name}={value}"]
    with cluster({"num_cpus": 1}, {"num_cpus": 1}) as nodes:
        address = ["--ray-address", nodes.address]
        command = subprocess.Popen([*arguments, *address], start_new_session=True, stderr=subprocess.PIPE, text=True)
        begun(out, before=16)
        os.killpg(command.pid, signal.SIGINT)
        _, errors = command.communicate(timeout=120)
        assert command.returncode == 130, errors
        assert len(errors.splitlines()) == 1, "nothing of Ray's"
        assert "interrupted" in [run.status for run in results.load(out).runs]
        workers = [one.pid for one in psutil.process_iter(["cmdline"]) if str(out) in (one.info["cmdline"] or ())]
        assert not workers
    compare(what, out, jobs=2)
    compare(what, tmp_path / "whole")
    assert_equal(tmp_path / "whole", out)


@pytest.mark.long
def test_a_cluster_of_this_machine_listens_to_it_alone_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    before = signal.getsignal(signal.SIGTERM)
    with Live(module_console(), 1) as live, on_ray(Cluster("local"), TrainOptions(), tmp_path, live) as ready:
        assert signal.getsignal(signal.SIGTERM) is before
        assert ready.places == os.cpu_count()
        own = psutil.Process().children(recursive=True)
        listened = {
            one.laddr.ip
            for process in [psutil.Process(), *own]
            for one in process.net_connections()
            if one.status == psutil.CONN_LISTEN
        }
    assert listened
    assert listened <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert not psutil.wait_procs(own, timeout=20)[1]
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_what_cannot_be_used_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    what = comparison("baseline", 1, 1)
    with pytest.raises(ValueError, match=r"^--ray-address 127.0.0.1:1 cannot be joined: "):
        compare(what, tmp_path / "a", cluster=Cluster("127.0.0.1:1"))
    marked = module._marked

    @contextmanager
    def elsewhere(out: Path) -> Iterator[Any]:
        with marked(out) as shared:
            (out / shared.marker).write_text("that of another machine")
            yield shared

    monkeypatch.setattr(module, "_marked", elsewhere)
    with pytest.raises(ValueError, match=r"^the node .* of the Ray cluster does not see --out .*: choose a folder"):
        compare(what, tmp_path / "b", cluster=Cluster("local"))
    assert not list((tmp_path / "b").glob("config.yaml")), "nothing is written"
    found, _ = compare(what, tmp_path / "c")
    assert compare(what, tmp_path / "c", cluster=Cluster("127.0.0.1:1"))[0].runs == found.runs, "nobody is asked"


def module_console() -> Any:
    import io

    from rich.console import Console

    return Console(file=io.StringIO())
