"""Every recipe of the papers once: one step on two images of each network with each of its methods.

``python -m benchmarks.recipes`` builds what `filtersmith reproduce` would train, with the options of its recipe,
takes one step, and says what failed. ``--table repr/table4`` takes one table. It exits with 1 where anything failed.
Images with boxes and questions are of 128 pixels; a row that begins with a backbone also begins without one.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.io import write_jpeg

from filtersmith import zoo
from filtersmith.lab.data import Augment, Data, ImageSet
from filtersmith.lab.generations import with_teacher
from filtersmith.lab.papers.published import Table, table, tables
from filtersmith.lab.papers.sets import SETS
from filtersmith.lab.recipe.config import RunConfig
from filtersmith.lab.reproduce.arms import IMAGE_SIZE, Arm, arm_of
from filtersmith.lab.reproduce.plan import stacked
from filtersmith.lab.training.run import load_data
from filtersmith.lab.training.session import Session
from filtersmith.methods import BASELINE

IMAGES = 4
"""Of each split; batches have two."""
SIDE = 128
"""Pixels of images that are written."""


def random_images(seed: int, size: int) -> Tensor:
    """Of a split, in colour."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (IMAGES, 3, size, size), dtype=torch.uint8, generator=generator)


def random_data(classes: int, size: int = IMAGE_SIZE) -> Data:
    """Random colour images of the papers' size."""

    def split(seed: int) -> ImageSet:
        return ImageSet(random_images(seed, size), torch.arange(IMAGES) % classes)

    names = tuple(str(number) for number in range(classes))
    return Data("random", "random", split(0), split(1), names, Augment(pad=4, flip=True), held_out=split(2))


def write_boxes(folder: Path) -> str:
    """Random images with a box each, laid out as VOC; gives the name of the data."""
    lists = folder / "ImageSets" / "Main"
    for one in (folder / "Annotations", folder / "JPEGImages", lists):
        one.mkdir(parents=True, exist_ok=True)
    for seed, split in enumerate(("trainval", "test")):
        names = [f"{split}-{number}" for number in range(IMAGES)]
        for name, image in zip(names, random_images(seed, SIDE), strict=True):
            write_jpeg(image, str(folder / "JPEGImages" / f"{name}.jpg"))
            (folder / "Annotations" / f"{name}.xml").write_text(
                f"<annotation><size><width>{SIDE}</width><height>{SIDE}</height></size><object><name>thing</name>"
                "<bndbox><xmin>10</xmin><ymin>20</ymin><xmax>90</xmax><ymax>100</ymax></bndbox></object></annotation>"
            )
        (lists / f"{split}.txt").write_text("\n".join(names))
    return f"voc:{folder}"


def write_questions(folder: Path) -> str:
    """Random images with a question each, laid out as VQA v1; gives the name of the data."""
    for seed, split in enumerate(("train2014", "val2014")):
        (folder / split).mkdir(parents=True, exist_ok=True)
        questions, annotations = [], []
        for number, image in enumerate(random_images(seed, SIDE), IMAGES * seed):
            write_jpeg(image, str(folder / split / f"COCO_{split}_{number:012d}.jpg"))
            own, answer = {"question_id": number, "image_id": number}, ("yes", "no")[number % 2]
            questions.append({**own, "question": "Is it noise?"})
            people = [{"answer_id": 1 + place, "answer": answer} for place in range(10)]
            kind = {"answer_type": "yes/no", "multiple_choice_answer": answer}
            annotations.append({**own, **kind, "answers": people})
        asked, answered = {"data_subtype": split, "questions": questions}, {"annotations": annotations}
        (folder / f"OpenEnded_mscoco_{split}_questions.json").write_text(json.dumps(asked))
        (folder / f"mscoco_{split}_annotations.json").write_text(json.dumps({"data_subtype": split, **answered}))
    return f"vqa:{folder}"


WRITTEN = {"detection": write_boxes, "vqa": write_questions}
"""Task -> what writes a set of it; the others are made in memory."""


def one_step(arm: Arm, weights: Path) -> float:
    """The loss of one step of a run; ``weights`` is a file for a network to begin with, in a folder for data."""
    classes = SETS[arm.data].classes
    method, begins = arm.method, None
    if arm.pretrained is not None:
        torch.save(_network(arm.pretrained.network, SETS[arm.pretrained.data].classes).state_dict(), weights)
        begins = str(weights)
    if arm.teacher is not None or arm.generations > 1:
        method = "kd" if method == BASELINE else method
        method = with_teacher(method, arm.network if arm.teacher is None else arm.teacher.network)
    if arm.begins_with is not None:
        torch.save(zoo.build(arm.network, SETS[arm.begins_with.data].classes).state_dict(), weights)
        begins = str(weights) if method == BASELINE else None
        if begins is None:
            method = stacked(method, [arm.network] * arm.begins_count)
    train = arm.train.model_copy(update={"batch_size": 2, "device": "cpu"})
    write = WRITTEN.get(arm.task)
    name, size = ("random", None) if write is None else (write(weights.parent / arm.task), SIDE)
    made = replace(arm, train=train)
    config = made.config(0, name, IMAGES, method=method, weights=begins, image_size=size, in_memory=True)
    return _loss(config, arm, random_data(classes, arm.image_size) if write is None else load_data(config))


def _loss(config: RunConfig, arm: Arm, data: Any) -> float:
    session = Session(config, data, resolve=lambda name: _network(name, SETS[arm.data].classes))
    inputs, targets = next(iter(session.batches.train.epoch(0)))
    loss, _ = session._train_batch(inputs, targets, 2)
    return float(loss)


def _network(name: str, classes: int) -> nn.Module:
    with torch.random.fork_rng():
        return zoo.build(name, classes).eval()


def arms(of: list[Table]) -> Iterator[tuple[str, Arm]]:
    """Each arm once, with the first row that has it."""
    seen: set[str] = set()
    for one in of:
        for row in one.trained():
            for arm in (arm_of(row, one), arm_of(row, one).from_scratch()):
                if arm.key not in seen:
                    seen.add(arm.key)
                    yield f"{one.id} {row.n}{' from scratch' if arm.scratch else ''}", arm


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
