"""Every recipe of the papers once: one step on two images of each network with each of its methods.

``python -m benchmarks.recipes`` builds what `filtersmith reproduce` would train, with the options of its recipe,
takes one step, and says what failed. ``--table repr/table4`` takes one table. It exits with 1 where anything failed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from filtersmith import zoo
from filtersmith.lab.data import Augment, Data, ImageSet
from filtersmith.lab.generations import with_teacher
from filtersmith.lab.papers.published import Table, table, tables
from filtersmith.lab.reproduce.arms import IMAGE_SIZE, Arm, arm_of
from filtersmith.lab.reproduce.plan import stacked
from filtersmith.lab.training.session import Session
from filtersmith.methods import BASELINE

CLASSES = {"cifar10": 10, "cifar100": 100, "svhn": 10}

IMAGES = 4
"""Of each split; batches have two."""


def random_data(classes: int) -> Data:
    """Random colour images of the papers' size."""

    def split(seed: int) -> ImageSet:
        generator = torch.Generator().manual_seed(seed)
        images = torch.randint(256, (IMAGES, 3, IMAGE_SIZE, IMAGE_SIZE), dtype=torch.uint8, generator=generator)
        return ImageSet(images, torch.arange(IMAGES) % classes)

    names = tuple(str(number) for number in range(classes))
    return Data("random", "random", split(0), split(1), names, Augment(pad=4, flip=True), held_out=split(2))


def one_step(arm: Arm, weights: Path) -> float:
    """The loss of one step of a run; ``weights`` is a file for a network to begin with."""
    classes = CLASSES[arm.data]
    method, begins = arm.method, None
    if arm.teacher is not None or arm.generations > 1:
        method = "kd" if method == BASELINE else method
        method = with_teacher(method, arm.network if arm.teacher is None else arm.teacher.network)
    if arm.begins_with is not None:
        torch.save(zoo.build(arm.network, CLASSES[arm.begins_with.data]).state_dict(), weights)
        begins = str(weights) if method == BASELINE else None
        if begins is None:
            method = stacked(method, [arm.network] * arm.begins_count)
    train = arm.train.model_copy(update={"batch_size": 2, "device": "cpu"})
    config = replace(arm, train=train).config(0, "random", IMAGES, method=method, weights=begins)
    session = Session(config, random_data(classes), resolve=lambda name: _network(name, classes))
    images, labels = next(iter(session.batches.train.epoch(0)))
    loss, _ = session._train_batch(images, labels, 2)
    return float(loss)


def _network(name: str, classes: int) -> nn.Module:
    with torch.random.fork_rng():
        return zoo.build(name, classes).eval()


def arms(of: list[Table]) -> Iterator[tuple[str, Arm]]:
    """Each arm once, with the first row that has it."""
    seen: set[str] = set()
    for one in of:
        for row in one.trained():
            arm = arm_of(row, one)
            if arm.key not in seen:
                seen.add(arm.key)
                yield f"{one.id} {row.n}", arm


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", help="one table")
    asked = parser.parse_args().table
    failed = done = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, arm in arms([table(asked)] if asked else list(tables())):
            start = time.monotonic()
            try:
                loss = one_step(arm, Path(folder) / "weights.pt")
                said = f"loss {loss:.3f}" if loss == loss and abs(loss) != float("inf") else f"WRONG: loss {loss}"
            except Exception as error:
                said = f"WRONG: {type(error).__name__}: {error}"
            failed += said.startswith("WRONG")
            done += 1
            print(f"{name}: {arm.method}@{arm.network}: {said} ({time.monotonic() - start:.1f} s)", flush=True)
    print(f"{done} recipes, {failed} wrong")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
