"""Detectors and networks that answer questions in processes of their own: killed, side by side, two as one."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from lab.tasks.detection import small_detector, small_sets
from lab.tasks.vqa.small_set import lay_out
from lab.training.test_distributed import free_port
from reference import forked
from reference.running import assert_same, command, ended, fork, manifest, measured, weights

from filtersmith.lab.training.folder import RunFolder
from filtersmith.lab.training.progress import Live

pytestmark = pytest.mark.long

for library in ("torchvision", "torchmetrics", "faster_coco_eval"):
    pytest.importorskip(library, reason="detectors need the extra filtersmith[vision]")

IMAGES = {"train": [f"train{number}" for number in range(5)], "val": ["val0", "val1", "val2"]}


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images with boxes, one of them without; and questions."""
    root = tmp_path_factory.mktemp("sets")
    small_sets.voc(root / "boxes", IMAGES, {"train3": [], "val2": []})
    small_sets.voc(root / "boxes-1", {**IMAGES, "val": ["val0"]}, {"train3": []})
    lay_out(root / "questions")
    lay_out(root / "questions-1", test=lambda *lists: [one.__delitem__(slice(1, None)) for one in lists] and None)
    torch.save(small_detector.half().state_dict(), root / "half.pt")
    return root


def options(task: str, sets: Path, *more: str) -> list[str]:
    """Of a command: two epochs, on the CPU."""
    own = {
        "detection": [f"data.name=voc:{sets}/boxes", "data.image_size=64", "train.batch_size=2", "train.workers=0"],
        "vqa": [f"data.name=vqa:{sets}/questions", "train.batch_size=4"],
    }[task]
    settings = (*own, "train.device=cpu", "train.epochs=2", "train.warmup_epochs=0", *more)
    return ["--task", task, *(part for setting in settings for part in ("--set", setting))]


def run_here(*arguments: str) -> None:
    torch.set_num_threads(1)
    small_detector.use()
    forked.use()
    command(*arguments)


def killed_here(*arguments: str) -> None:
    """The command line, which dies after the second batch of the second epoch."""

    def batch(self: Live, done: int, batches: int) -> None:
        if self._current is not None and self._current._finished == 1 and done == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    Live.batch = batch  # type: ignore[method-assign]
    run_here(*arguments)


@pytest.mark.parametrize("task", ["detection", "vqa"])
def test_killed_in_the_middle_of_an_epoch_and_resumed(sets: Path, tmp_path: Path, task: str) -> None:
    what = ["train", *options(task, sets), "--method", "wau", "--resume", "auto", "--out"]
    assert ended(fork(killed_here, *what, str(tmp_path / "killed"))) == -signal.SIGKILL
    assert RunFolder(tmp_path / "killed").all_checkpoints()
    assert not RunFolder(tmp_path / "killed").finished()
    for name in ("killed", "whole"):
        assert ended(fork(run_here, *what, str(tmp_path / name))) == 0
    assert_same(weights(tmp_path / "killed"), weights(tmp_path / "whole"))
    killed, whole = (RunFolder(tmp_path / name).result() for name in ("killed", "whole"))
    assert killed is not None
    assert whole is not None
    assert measured(killed) == measured(whole)


@pytest.mark.parametrize("task", ["detection", "vqa"])
def test_two_runs_side_by_side(sets: Path, tmp_path: Path, task: str) -> None:
    more = ["--methods", "baseline,wau", "--seeds", "1", "--epochs", "1", "--jobs", "2", "--out", str(tmp_path)]
    assert ended(fork(run_here, "compare", *options(task, sets), *more)) == 0
    found = json.loads((tmp_path / "results.json").read_text())
    assert [run["status"] for run in found["runs"]] == ["finished", "finished"]
    assert (tmp_path / "report.html").is_file()


# Two processes, as torchrun starts them


def even() -> None:
    """Nothing random in a step, and as many samples of each image, so that a mean of means is the mean."""
    from torchvision.models.detection import _utils

    from filtersmith.lab.tasks.vqa.network import DeeperLSTM

    def first(self: Any, matched: list[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        chosen: tuple[list[torch.Tensor], list[torch.Tensor]] = [], []
        for one in matched:
            positive, negative = torch.where(one >= 1)[0], torch.where(one == 0)[0]
            positive = positive[: int(self.batch_size_per_image * self.positive_fraction)]
            negative = negative[: self.batch_size_per_image - len(positive)]
            assert len(positive) + len(negative) == self.batch_size_per_image
            for place, rows in zip(chosen, (positive, negative), strict=True):
                place.append(torch.zeros_like(one, dtype=torch.uint8).index_fill(0, rows, 1))
        return chosen

    _utils.BalancedPositiveNegativeSampler.__call__ = first
    assert DeeperLSTM.__init__.__kwdefaults__ is not None
    DeeperLSTM.__init__.__kwdefaults__["dropout"] = 0.0


def rank_here(rank: int, world: int, port: int, said: str, *arguments: str) -> None:
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    if world > 1:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "GLOO_SOCKET_IFNAME": "lo"}
        os.environ |= {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    even()
    run_here(*arguments)


def together(world: int, said: Path, *arguments: str) -> list[int]:
    port = free_port()
    return [
        ended(one) for one in [fork(rank_here, rank, world, port, str(said), *arguments) for rank in range(world)]
    ]


@pytest.mark.parametrize(
    ("task", "settings"),
    [
        (
            "detection",
            (
                "data.name=voc:{}/boxes-1",
                "train.batch_size=3",
                "model.weights={}/half.pt",
                "train.optimizer=sgd",
                "train.lr=0.001",
            ),
        ),
        ("vqa", ("data.name=vqa:{}/questions-1", "train.batch_size=5", "model.name=lenet5", "data.image_size=32")),
    ],
)
def test_two_processes_are_one(sets: Path, tmp_path: Path, task: str, settings: tuple[str, ...]) -> None:
    """Networks without trained batch norms. Batches do not divide by two, and one of two has nothing to test."""
    more = [setting.format(sets) for setting in settings]
    what = ["train", *options(task, sets, *more), "--method", "wau", "--out"]
    for world, name in ((2, "two"), (1, "one")):
        assert together(world, tmp_path / name, *what, str(tmp_path / f"{name}-out")) == [0] * world
        assert manifest(tmp_path / f"{name}-out")["processes"] == world
    one, two = weights(tmp_path / "one-out"), weights(tmp_path / "two-out")
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-5, msg=name)
    first, second = (measured(RunFolder(tmp_path / f"{name}-out").result()) for name in ("one", "two"))  # type: ignore[arg-type]
    for left, right in zip(first, second, strict=True):
        assert right.pop("scores") == pytest.approx(left.pop("scores"), abs=1e-5)
        known = {name: value for name, value in left.items() if value is not None}
        assert {name: right[name] for name in known} == pytest.approx(known, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(("task", "size"), [("detection", 2), ("vqa", 11)])
def test_a_last_batch_that_leaves_a_process_nothing_is_refused(
    sets: Path, tmp_path: Path, task: str, size: int
) -> None:
    what = ["train", *options(task, sets, f"train.batch_size={size}"), "--out", str(tmp_path / "out")]
    assert together(2, tmp_path / "said", *what) == [2, 2]
    assert "train.batch_size must leave every process" in " ".join((tmp_path / "said").read_text().split())
    assert not (tmp_path / "out").exists()
