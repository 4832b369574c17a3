"""Detectors are trained, resumed, tested and reported as networks of any other task."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lab.tasks.detection import small_detector, small_sets
from reference.running import StopAfter, assert_same, weights
from torch import nn

from filtersmith.lab.recipe.config import RunConfig, merge
from filtersmith.lab.tasks.detection.task import DETECTION
from filtersmith.lab.training.errors import Interrupted
from filtersmith.lab.training.run import load_data, train
from filtersmith.lab.training.session import Session
from filtersmith.lab.training.setup import make_accelerator
from filtersmith.lab.training.stopping import StopRequest

pytest.importorskip("torchvision", reason="detectors need the extra filtersmith[vision]")
pytest.importorskip("torchmetrics", reason="average precision needs the extra filtersmith[vision]")
pytest.importorskip("faster_coco_eval", reason="average precision needs the extra filtersmith[vision]")


def recipe(folder: Path, **more: object) -> RunConfig:
    options = {
        "task": "detection",
        "data.name": f"voc:{folder}",
        "data.image_size": 64,
        "train.epochs": 2,
        "train.batch_size": 1,
        "train.device": "cpu",
        "train.workers": 0,
        **more,
    }
    return merge(RunConfig, options=options)


def cats_and_dogs(folder: Path) -> Path:
    return small_sets.voc(folder, {"train": ["a", "b"], "val": ["c"]})


def test_a_run_that_was_stopped_goes_on_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_detector.use(monkeypatch.setattr)
    what = recipe(cats_and_dogs(tmp_path / "set"), method="wau")
    data = load_data(what)
    whole = train(what, tmp_path / "whole", data, resume=False)
    with StopRequest() as stop, pytest.raises(Interrupted):
        train(what, tmp_path / "parts", data, resume=False, stop=stop, progress=StopAfter(stop, 3))
    train(what, tmp_path / "parts", data, resume=True)
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    last = whole.epochs[-1]
    assert set(last.scores) == {"AP50", "AP75"}
    assert (last.train_accuracy, last.test_loss) == (None, None)
    assert last.train_loss is not None
    assert 0 < last.train_loss < 10


class Knowing(torch.nn.Module):
    """Finds the cats of all images, and no dog."""

    def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        boxes = torch.tensor([[0.0, 0.0, 20.0, 30.0]]) * images[0].shape[1] / small_sets.HEIGHT
        one = {"boxes": boxes, "labels": torch.ones(1, dtype=torch.int64), "scores": torch.ones(1)}
        return [one for _ in images]


def test_scores_are_average_precision(tmp_path: Path) -> None:
    what = recipe(cats_and_dogs(tmp_path / "set"))
    data = load_data(what)
    accelerator = make_accelerator(what.train)
    batches = DETECTION.batches(what, data, DETECTION.facts(data), accelerator, nn.Identity())
    found = DETECTION.scores(Knowing(), batches.test, accelerator)
    assert (found.loss, found.score, found.more["AP50"]) == (None, pytest.approx(0.5), pytest.approx(0.5))


class Careful(Knowing):
    """Finds nothing in the first image of a batch."""

    def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        first, *others = super().forward(images)
        return [{name: value[:0] for name, value in first.items()}, *others]


@pytest.mark.parametrize(("network", "score"), [(Knowing(), 0.25), (Careful(), 0.5)])
def test_what_is_found_in_an_image_without_boxes_is_wrong(
    tmp_path: Path, network: torch.nn.Module, score: float
) -> None:
    small_sets.voc(tmp_path, {"train": ["a", "b"], "val": ["c", "d"]}, {"c": []})
    what = recipe(tmp_path, **{"train.batch_size": 2})
    data, accelerator = load_data(what), make_accelerator(what.train)
    batches = DETECTION.batches(what, data, DETECTION.facts(data), accelerator, nn.Identity())
    assert DETECTION.scores(network, batches.test, accelerator).score == pytest.approx(score, abs=0.01)


def test_bf16_trains_as_fp32_up_to_its_rounding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the images one has no boxes, and is a batch of its own."""
    small_detector.use(monkeypatch.setattr)
    folder = small_sets.voc(tmp_path / "set", {"train": ["a", "b"], "val": ["c"]}, {"a": []})
    found = []
    for precision in ("fp32", "bf16"):
        what = recipe(folder, **{"train.precision": precision, "train.optimizer": "sgd", "train.lr": 0.001})
        found.append(train(what, tmp_path / precision, load_data(what), resume=False).epochs[-1].train_loss)
    assert found[1] == pytest.approx(found[0], rel=0.1)
    assert found[1] != found[0]
    assert all(bool(one.isfinite().all()) for one in weights(tmp_path / "bf16").values())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"data.label": "a"}, "data.label must be left out"),
        ({"data.augment": "reflect"}, "data.augment must be true, mirror"),
        ({"data.holdout": 1}, "data.holdout must be 0"),
        ({"train.label_smoothing": 0.1}, "train.label_smoothing must be 0 for a detector"),
        ({"model.name": "resnet8"}, "unknown detector 'resnet8'"),
        ({"model.small_images": True}, "model.small_images must be false"),
        ({"method": "kd(teacher='x.safetensors')"}, "method must be without what teaches classes"),
    ],
)
def test_what_does_not_go_with_boxes_is_refused(tmp_path: Path, options: dict[str, object], said: str) -> None:
    what = recipe(cats_and_dogs(tmp_path / "set"), **options)
    with pytest.raises(ValueError, match=said):
        Session(what, load_data(what), resolve=lambda name: torch.nn.Identity())
