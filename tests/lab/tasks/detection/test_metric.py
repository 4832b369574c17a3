"""Mean average precision: that of pycocotools, and the same in several processes."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor

pytest.importorskip("torchmetrics")
pytest.importorskip("faster_coco_eval")

from reference import two_processes

from filtersmith.lab.tasks.detection.metric import AveragePrecision

Image = tuple[dict[str, Tensor], dict[str, Tensor]]
CLASSES = 4


def fixture(images: int = 12, most: int = 9, crowds: float = 0.2, seed: int = 0) -> list[Image]:
    """Predictions and targets: boxes found roughly, not at all and where nothing is; whole numbers, so that overlaps
    are often exactly 0.6 or 0.75, and scores that are often equal."""
    random = np.random.default_rng(seed)
    made: list[Image] = []
    for number in range(images):
        count = 0 if number % 5 == 3 else int(random.integers(1, most))
        corner, side = random.integers(0, 60, (count, 2)), random.integers(4, 40, (count, 2))
        there = np.concatenate([corner, corner + side], 1)
        labels = random.integers(1, CLASSES, count)  # the last class is found, but never there
        crowd = random.random(count) < crowds
        found = np.concatenate(
            [there + random.integers(-2, 3, there.shape), there[::2], random.integers(0, 30, (4, 4))]
        )
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
        guesses = np.concatenate([labels, labels[::2], random.integers(1, CLASSES + 1, 4)])
        scores = random.integers(1, 12, len(found)) / 12
        kept = slice(0, 0) if number % 5 == 1 else slice(None)  # an image in which nothing is found
        made.append(
            (
                {
                    "boxes": torch.tensor(found[kept], dtype=torch.float32),
                    "labels": torch.tensor(guesses[kept]),
                    "scores": torch.tensor(scores[kept], dtype=torch.float32),
                },
                {
                    "boxes": torch.tensor(there, dtype=torch.float32).reshape(-1, 4),
                    "labels": torch.tensor(labels),
                    "iscrowd": torch.tensor(crowd).long(),
                },
            )
        )
    return made


def ours(images: list[Image], size: int = 5, **options: Any) -> dict[str, float]:
    metric = AveragePrecision(**options)
    for start in range(0, len(images), size):
        metric.add(*zip(*images[start : start + size], strict=True))
    return metric.result()


def theirs(images: list[Image], max_detections: int = 100) -> dict[str, float]:
    """By pycocotools itself, from its table of precisions: its summary knows 100 detections only."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def records(side: int) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = []
        for number, pair in enumerate(images, 1):
            one = pair[side]
            for row, (x1, y1, x2, y2) in enumerate(one["boxes"].double().tolist()):
                record = {"id": len(listed) + 1, "image_id": number, "category_id": int(one["labels"][row])}
                record |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
                record |= {"iscrowd": int(one["iscrowd"][row])} if side else {"score": float(one["scores"][row])}
                listed.append(record)
        return listed

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": number} for number in range(1, len(images) + 1)],
            "categories": [{"id": number} for number in range(1, CLASSES + 1)],
            "annotations": records(1),
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(records(0)), "bbox")
        evaluation.params.maxDets = [max_detections]
        evaluation.evaluate()
        evaluation.accumulate()
    table = evaluation.eval["precision"][:, :, :, 0, 0]  # overlaps, recalls, classes
    parts = {"AP": table, "AP50": table[0], "AP75": table[5]}
    return {name: float(part[part > -1].mean()) for name, part in parts.items()}


@pytest.mark.parametrize("max_detections", [100, 1, 3, 10, 300])
@pytest.mark.parametrize(("crowds", "seed"), [(0.0, 0), (0.3, 1), (0.3, 2)])
def test_it_is_that_of_pycocotools(crowds: float, seed: int, max_detections: int) -> None:
    images = fixture(crowds=crowds, seed=seed)
    expected = theirs(images, max_detections)
    assert 0.05 < expected["AP"] < expected["AP50"] < 0.95, "the fixture has something to tell"
    found = ours(images, max_detections=max_detections)
    assert found.keys() == {"AP", "AP50", "AP75"}
    assert found == pytest.approx(expected, abs=1e-6)


def test_more_detections_than_count(capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder) -> None:
    """Two hundred in one image: the best hundred of each class count, and nothing is printed or warned of."""
    images = fixture(images=3, most=200, crowds=0.1, seed=3)
    assert max(len(found["boxes"]) for found, _ in images) > 200
    for most in (20, 100):
        assert ours(images, max_detections=most) == pytest.approx(theirs(images, most), abs=1e-6)
    assert capfd.readouterr() == ("", "")
    assert not [one for one in recwarn if "detections" in str(one.message)]


def one_box(score: float = 0.5, crowd: int = 0) -> Image:
    box, label = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([1])
    return (
        {"boxes": box, "labels": label, "scores": torch.tensor([score])},
        {"boxes": box, "labels": label, "iscrowd": torch.tensor([crowd])},
    )


def nothing(image: Image, side: int) -> Image:
    """The image without its predictions (0) or its targets (1)."""
    empty = {name: tensor[:0] for name, tensor in image[side].items()}
    return (empty, image[1]) if side == 0 else (image[0], empty)


@pytest.mark.parametrize(
    ("images", "score"),
    [
        ([one_box()], 1.0),
        ([], 0.0),
        ([nothing(one_box(), 0)], 0.0),
        ([nothing(one_box(), 1)], 0.0),
        ([nothing(nothing(one_box(), 0), 1)], 0.0),
        ([one_box(crowd=1)], 0.0),  # nothing but what is ignored
        ([one_box(), one_box(crowd=1)], 1.0),  # found, and neither right nor wrong
        ([one_box(), nothing(one_box(0.9), 1)], 0.5),  # the best guess is wrong
        ([one_box(), nothing(one_box(0.1), 1)], 1.0),
        ([one_box(float("nan"))], 0.0),
    ],
)
def test_scores_that_are_known(images: list[Image], score: float) -> None:
    assert ours(images) == pytest.approx(dict.fromkeys(("AP", "AP50", "AP75"), score), abs=1e-6)


def test_targets_need_not_say_what_is_ignored_and_precision_may_be_low() -> None:
    (found, there), metric = one_box(), AveragePrecision()
    half = {name: tensor.bfloat16() if tensor.is_floating_point() else tensor for name, tensor in found.items()}
    metric.add([half], [{"boxes": there["boxes"], "labels": there["labels"].int()}])
    assert metric.result()["AP"] == 1.0
    assert metric.result()["AP"] == 1.0, "asked again"


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="predictions for 1 images, but 0 targets"):
        AveragePrecision().add([one_box()[0]], [])
    for most in (0, 1.5, True):
        with pytest.raises(ValueError, match="max_detections must be a whole number of at least 1, got"):
            AveragePrecision(max_detections=most)  # type: ignore[arg-type]


def work() -> dict[str, float]:
    """Batches of five as two processes share them: two and three images, the last one by one rank alone."""
    rank, images, metric = dist.get_rank(), fixture(images=11), AveragePrecision()
    for start in range(0, len(images), 5):
        batch = images[start : start + 5]
        part = batch[rank * len(batch) // 2 : (rank + 1) * len(batch) // 2]
        metric.add([found for found, _ in part], [there for _, there in part])
    return metric.result()


@pytest.mark.long
def test_two_processes_find_what_one_does(tmp_path: Path) -> None:
    whole = ours(fixture(images=11))
    assert two_processes.run(work, tmp_path) == [whole, whole]
    assert ours(fixture(images=11)[::-1]) != whole, "the order of images counts where scores are equal"
