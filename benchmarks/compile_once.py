"""What ``train.compile`` adds to the first epoch of each run of a comparison, and what of it the runs share.

``python -m benchmarks.compile_once`` prints one table: C^3(32) on digits, batch 128, five seeds a method, one after
the other in one process, as ``filtersmith compare --compile`` has them: once as torch does it by itself, once as the
laboratory does (`lab/training/compiled.py`). Nothing is taken from what torch keeps on disk.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from unittest.mock import patch

import torch
from torch._dynamo.utils import counters
from torch._inductor.utils import fresh_cache

from benchmarks.timing import Measured, command, seconds
from filtersmith.lab.recipe.config import RunConfig, merge
from filtersmith.lab.training import compiled
from filtersmith.lab.training.run import load_data
from filtersmith.lab.training.session import Session
from filtersmith.lab.training.stopping import StopRequest

METHODS, SEEDS, EPOCHS = ("baseline", "wau", "wau(mode=skip)", "kflo"), 5, 3


class Unseen:
    """Nobody looks on."""

    def __getattr__(self, name: str) -> object:
        return lambda *_: None


@contextmanager
def by_itself() -> Iterator[None]:
    """As torch compiles without the laboratory."""
    with patch.object(compiled, "LIMIT", 8), patch.object(compiled, "share_classes", lambda model: None):
        yield


@contextmanager
def anew() -> Iterator[None]:
    """Nothing compiled yet, in memory or on disk."""
    torch._dynamo.reset()
    with fresh_cache(), torch._dynamo.config.patch(recompile_limit=8, accumulated_recompile_limit=256):
        yield


def extra(method: str, seed: int, device: str) -> tuple[float, int]:
    """Seconds of a run's first epoch beyond those of a later one, and the graphs that were compiled."""
    options = {"model.name": "vanilla-3-32", "data.name": "digits", "train.epochs": 20, "train.compile": True}
    config = merge(RunConfig, options=options | {"method": method, "seed": seed, "train.device": device})
    session, before = Session(config, load_data(config)), counters["stats"]["unique_graphs"]
    stop, epochs = StopRequest(), []
    for epoch in range(EPOCHS):
        epochs.append(seconds(lambda: session.train_epoch(stop, Unseen()), device))
        session.position.epoch, session.position.batch = epoch + 1, 0
    return epochs[0] - min(epochs[1:]), counters["stats"]["unique_graphs"] - before


def measure(device: str, methods: tuple[str, ...], seeds: int) -> Measured:
    rows = []
    extra("baseline", 0, device)  # what torch does once in a process is nobody's
    for method in methods:
        for how, around in (("torch by itself", by_itself), ("laboratory", nullcontext)):
            with anew(), around():
                found = [extra(method, seed, device) for seed in range(seeds)]
            times = [taken for taken, _ in found]
            later = statistics.median(times[1:])
            rows.append((method, how, f"{times[0]:.1f}", f"{later:.1f}", str([count for _, count in found])))
    title = f"Seconds that train.compile adds to a run's first epoch: C^3(32), digits, {seeds} seeds in one process"
    columns = ("Method", "Compiled by", "First seed", "Others, median", "Graphs of each seed")
    return Measured(f"compile-{device}", title, columns, tuple(rows), text_columns=2)


if __name__ == "__main__":
    command(__doc__, lambda device: measure(device, METHODS, SEEDS))
