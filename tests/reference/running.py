"""Small runs for the tests of the laboratory: digits and a network of 2,618 parameters, 0.3 s each.

A run that is to be killed lives in a process of its own.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import cache
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from reference import server
from safetensors.torch import load_file
from torch import Tensor

from filtersmith.lab.data import Data, load
from filtersmith.lab.recipe.config import RunConfig
from filtersmith.lab.results.document import Epoch, Run
from filtersmith.lab.training import run as train
from filtersmith.lab.training.folder import RunFolder
from filtersmith.lab.training.stopping import StopRequest


@cache
def digits() -> Data:
    return load("digits")


def config(method: str = "baseline", seed: int = 0, model: str = "vanilla-1-4", **options: Any) -> RunConfig:
    """Two epochs of 23 steps unless the training options say otherwise."""
    options = {"epochs": 2, "batch_size": 64, "lr": 0.05, "device": "cpu", **options}
    return RunConfig.model_validate({"model": {"name": model}, "train": options, "method": method, "seed": seed})


def run(what: RunConfig, out: Path, *, resume: bool = False, **keywords: Any) -> Run:
    return train.train(what, out, digits(), resume=resume, **keywords)


def weights(out: Path) -> dict[str, Tensor]:
    """What was deployed."""
    return load_file(str(RunFolder(out).model))


def assert_same(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    """Bit for bit."""
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


def differ(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return any(not torch.equal(left[name], right[name]) for name in left)


def measured(result: Run) -> list[dict[str, Any]]:
    """The metrics without the times."""
    return [epoch.model_dump(exclude={"train_seconds"}) for epoch in result.epochs]


class StopAfter:
    """Progress that asks to stop after so many batches, counted over the run, as a signal would."""

    def __init__(self, stop: StopRequest, batches: int, number: int = signal.SIGTERM) -> None:
        self.stop, self.left, self.number = stop, batches, number

    def note(self, text: str) -> None: ...
    def start(self, epochs: int, done: Sequence[Epoch]) -> None: ...

    def batch(self, done: int, batches: int) -> None:
        self.left -= 1
        if self.left == 0:
            self.stop.signal = self.number

    def epoch(self, epoch: Epoch) -> None: ...


def fork(work: Callable[..., None], *arguments: Any) -> BaseProcess:
    """``work(*arguments)`` in a new process, started; it has one thread, and its output is thrown away."""
    return server.start(_quietly, work, *arguments)


def ended(process: BaseProcess, limit: float = 60) -> int:
    """The exit code of a process, which is killed after ``limit`` seconds."""
    process.join(limit)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise AssertionError(f"the process hung for {limit} s")
    return process.exitcode


def _quietly(work: Callable[..., None], *arguments: Any) -> None:
    torch.set_num_threads(1)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    work(*arguments)


def printed(*arguments: str, file: Path) -> str:
    """What the command line prints into a file, in a new process that knows no terminal and no width."""
    assert ended(server.start(_printing, str(file), *arguments)) == 0
    return file.read_text("utf-8")


def _printing(file: str, *arguments: str) -> None:
    os.environ.pop("COLUMNS", None)
    os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), 1)
    command(*arguments)


def command(*arguments: str) -> None:
    """The command line, in this process; ends it."""
    from filtersmith.cli import main

    sys.argv = ["filtersmith", *arguments]
    main()


def manifest(out: Path) -> dict[str, Any]:
    return json.loads((out / "manifest.json").read_text())  # type: ignore[no-any-return]
