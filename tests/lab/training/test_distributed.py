"""Two processes train what one trains: the same global batches, the same masks, the same network at the end."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.commands.launch import launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env
from reference.running import StopAfter, assert_same, command, config, digits, ended, fork, manifest, run, weights
from torch.nn import functional as F

from filtersmith import zoo
from filtersmith.lab.data import channel_stats, load
from filtersmith.lab.recipe.config import RunConfig
from filtersmith.lab.training import run as train
from filtersmith.lab.training.errors import Interrupted
from filtersmith.lab.training.folder import RunFolder
from filtersmith.lab.training.locking import locked
from filtersmith.lab.training.progress import Live
from filtersmith.lab.training.stopping import Deadline, StopRequest

ACCELERATE = ["--multi_gpu", "--num_processes=2", "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no"]
ACCELERATE += ["--num_cpu_threads_per_process=1"]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def as_rank(
    rank: int, port: int, accident: Callable[[], None] | None, environment: dict[str, str], said: str, *arguments: str
) -> None:
    """What a launcher starts; the accident happens to the second process alone."""
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
    if accident is not None and rank == 1:
        accident()
    os.environ |= {**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.environ |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GLOO_SOCKET_IFNAME": "lo"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command("train", "--set", "train.device=cpu", *arguments)


def both(
    *arguments: str,
    accident: Callable[[], None] | None = None,
    environment: dict[str, str] | None = None,
    said: str = os.devnull,
) -> list[int]:
    """The exit codes of two processes as torchrun starts them, or with the environment of another launcher."""
    port = free_port()
    processes = [fork(as_rank, rank, port, accident, environment or {}, said, *arguments) for rank in range(2)]
    return [ended(process) for process in processes]


@pytest.mark.long
def test_two_processes_are_one(tmp_path: Path) -> None:
    """On a network without batch norm, with batches that do not divide by two."""
    options = ["--model", "lenet5", "--method", "wau", "--epochs", "1", "--seed", "4"]
    settings = ["data.image_size=32", "train.batch_size=63", "train.lr=0.05", "train.device=cpu", "train.audit=true"]
    for setting in settings:
        options += ["--set", setting]
    said = tmp_path / "said"
    assert both(*options, "--out", str(tmp_path / "two"), said=str(said)) == [0, 0]
    assert said.read_text().count("Deployed network: ") == 1  # one of them speaks
    assert manifest(tmp_path / "two")["processes"] == 2

    what = RunFolder(tmp_path / "two").read_config()
    one = train.train(what, tmp_path / "one", load("digits", image_size=32), resume=False)
    assert manifest(tmp_path / "one")["processes"] == 1
    two = RunFolder(tmp_path / "two").result()
    assert two is not None
    torch.manual_seed(4)
    start = zoo.build("lenet5", 10, 1, image_size=32).state_dict()
    left, right = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert (left["conv1.weight"] - start["conv1.weight"]).abs().max() > 0.01  # it did train
    assert one.epochs[0].test_accuracy > 0.4
    for name, value in left.items():
        torch.testing.assert_close(right[name], value, rtol=0, atol=1e-5, msg=name)
    assert two.epochs[0].train_loss == pytest.approx(one.epochs[0].train_loss, rel=1e-5)
    assert two.epochs[0].train_accuracy == pytest.approx(one.epochs[0].train_accuracy, abs=2e-3)
    assert two.epochs[0].test_loss == pytest.approx(one.epochs[0].test_loss, rel=1e-4)
    filters = [of.epochs[0].filters for of in (one, two)]
    assert filters[0] is not None
    assert filters[1] is not None
    assert filters[1].correlation == pytest.approx(filters[0].correlation, abs=1e-5), "on all images, not on a share"
    assert filters[1].ortho_sum == pytest.approx(filters[0].ortho_sum, rel=1e-5)


def run_one_epoch(what: RunConfig, out: Path) -> None:
    with StopRequest() as stop, pytest.raises(Interrupted):
        run(what, out, stop=stop, progress=StopAfter(stop, 23))


@pytest.mark.long
def test_batch_norm_is_tested_as_it_is_deployed(tmp_path: Path) -> None:
    """Each process has statistics of its own; the network that is saved has those of the first.

    Begun by one process and gone on with by two, which ``accelerate launch`` has told what it tells.
    """
    what = config("asa", model="vanilla-2-8", epochs=3)
    run_one_epoch(what, tmp_path)
    options = ["--model", "vanilla-2-8", "--method", "asa", "--epochs", "3", "--resume", "auto"]
    options += ["--set", "train.batch_size=64", "--set", "train.lr=0.05", "--set", "train.device=cpu"]
    launcher = launch_command_parser().parse_args([*ACCELERATE, "script.py"])
    environment = prepare_multi_gpu_env(launcher)
    assert both(*options, "--out", str(tmp_path), environment=environment) == [0, 0]
    assert manifest(tmp_path)["processes"] == 2
    result = RunFolder(tmp_path).result()
    assert result is not None
    assert len(result.epochs) == 3

    model = zoo.build("vanilla-2-8", 10, 1, image_size=8)
    model.load_state_dict(weights(tmp_path))
    model.eval()
    (mean,), (std,) = channel_stats(digits().train)
    with torch.no_grad():
        loss = F.cross_entropy(model((digits().test.images / 255 - mean) / std), digits().test.labels)
    assert result.epochs[-1].test_loss == pytest.approx(loss.item(), rel=1e-4)


def ctrl_c() -> None:
    def batch(self: Live, done: int, batches: int) -> None:
        if done == 5:
            signal.raise_signal(signal.SIGINT)

    Live.batch = batch  # type: ignore[method-assign]


def nan() -> None:
    work = train.Session._train_batch

    def broken(self: train.Session, *arguments: Any) -> Any:
        loss, hits = work(self, *arguments)
        return (loss * float("nan") if self.position.step == 4 else loss), hits

    train.Session._train_batch = broken  # type: ignore[method-assign]


def time_is_up() -> None:
    looks = iter(range(6))
    Deadline.too_late = lambda self, needed=0.0: next(looks, 5) == 5  # type: ignore[method-assign]


@pytest.mark.long
def test_one_signal_stops_both_at_the_same_step(tmp_path: Path) -> None:
    options = ["--model", "vanilla-1-4", "--method", "wau", "--epochs", "1", "--resume", "auto", "--out"]
    assert both(*options, str(tmp_path / "run"), accident=ctrl_c) == [130, 130]
    assert manifest(tmp_path / "run")["status"] == "interrupted"
    assert [path.name for path in RunFolder(tmp_path / "run").all_checkpoints()] == ["step-00000005"]
    for name in ("run", "whole"):
        assert both(*options, str(tmp_path / name)) == [0, 0]
    assert_same(weights(tmp_path / "run"), weights(tmp_path / "whole"))


@pytest.mark.long
def test_a_folder_in_use_refuses_both(tmp_path: Path) -> None:
    with locked(tmp_path):
        assert both("--model", "vanilla-1-4", "--out", str(tmp_path)) == [2, 2]


@pytest.mark.long
def test_the_time_limit_of_one_stops_both_at_the_same_step(tmp_path: Path) -> None:
    options = ["--model", "vanilla-1-4", "--method", "wau", "--epochs", "1", "--time-limit", "9h", "--resume", "auto"]
    assert both(*options, "--out", str(tmp_path / "run"), accident=time_is_up) == [75, 75]
    assert manifest(tmp_path / "run")["status"] == "interrupted"
    assert [path.name for path in RunFolder(tmp_path / "run").all_checkpoints()] == ["step-00000005"]
    assert both(*options, "--out", str(tmp_path / "run")) == [0, 0]
    assert manifest(tmp_path / "run")["alone"] is False, "two processes share the machine"


@pytest.mark.long
def test_a_failure_ends_both_at_once(tmp_path: Path) -> None:
    assert both("--model", "vanilla-1-4", "--out", str(tmp_path / "run"), accident=nan) == [1, 1]
    assert manifest(tmp_path / "run")["error"].startswith("loss is nan in epoch 1, step 5 ")
