"""Small comparisons whose results are held against each other, however their runs were trained."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

from reference.running import assert_same, weights
from rich.console import Console

from filtersmith.lab import compare as comparing
from filtersmith.lab.recipe.config import CompareConfig, merge
from filtersmith.lab.results import document as results
from filtersmith.lab.results.document import Comparison
from filtersmith.lab.training.progress import Live
from filtersmith.lab.training.run import load_data

OPTIONS: dict[str, Any] = {
    "model.name": "vanilla-1-4",
    "data.limit": 100,
    "train.batch_size": 50,
    "train.lr": 0.05,
    "train.device": "cpu",
}


def comparison(methods: str, seeds: int, epochs: int, **options: Any) -> CompareConfig:
    values = {**OPTIONS, **options, "methods": methods.split(), "seeds": seeds, "train.epochs": epochs}
    return comparing.normalised(merge(CompareConfig, options=values))


def compare(
    what: CompareConfig, out: Path, jobs: int = 1, kind: type[Live] = Live, **means: Any
) -> tuple[Comparison, list[str]]:
    """The results and the lines that were printed."""
    printed = io.StringIO()
    with kind(Console(file=printed, width=300), len(what.methods) * len(what.seeds)) as live:
        found = comparing.compare(what, out, load_data(what), live, jobs=jobs, **means)
    return found, printed.getvalue().splitlines()


def assert_equal(left: Path, right: Path) -> None:
    """Bit for bit, but for times and machines."""
    one, other = (results.load(out).model_dump(exclude={"environment"}) for out in (left, right))
    for document in (one, other):
        for run in document["runs"]:
            del run["alone"]
            for epoch in run["epochs"]:
                del epoch["train_seconds"]
    assert one == other
    networks = sorted(path.relative_to(left).parent for path in left.rglob("model.safetensors"))
    assert networks == sorted(path.relative_to(right).parent for path in right.rglob("model.safetensors"))
    for network in networks:
        assert_same(weights(left / network), weights(right / network))


def begun(out: Path, before: int = 0) -> int:
    """Wait for a checkpoint of any run after so many steps; the last step of them."""
    for _ in range(6000):
        steps = [int(path.name[5:]) for path in out.glob("runs/*/*/checkpoints/step-*")]
        if steps and max(steps) > before:
            return max(steps)
        time.sleep(0.05)
    raise AssertionError("no checkpoint in five minutes")
