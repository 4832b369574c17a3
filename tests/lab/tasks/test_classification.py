"""Classification: facts of the data, batches, the loss, accuracy."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.running import config, digits
from torch import Tensor, nn
from torch.nn import functional as F

from filtersmith.lab.data import Augment, Data, FileSet, with_held_out
from filtersmith.lab.recipe.config import RunConfig
from filtersmith.lab.tasks.classification import CLASSIFICATION, augmentation
from filtersmith.lab.training.setup import make_accelerator

NONE = nn.Identity()
"""A network that batches have nothing to do with."""


def test_facts_are_those_of_the_training_images() -> None:
    values = digits().train.images.double() / 255  # type: ignore[union-attr]
    assert CLASSIFICATION.facts(digits()) == {
        "num_classes": 10,
        "in_channels": 1,
        "image_size": 8,
        "mean": [pytest.approx(values.mean().item())],
        "std": [pytest.approx(values.std(correction=0).item())],
    }


def test_batches_are_shuffled_for_training_and_in_order_for_the_rest() -> None:
    what, data = config(batch_size=600), with_held_out(digits(), 100)
    found = CLASSIFICATION.batches(what, data, CLASSIFICATION.facts(data), make_accelerator(what.train), NONE)
    assert (found.train.global_sizes, found.test.global_sizes) == ([600, 600, 137], [360])
    orders = [torch.cat([labels for _, labels in found.train.epoch(epoch)]) for epoch in (0, 1)]
    assert not torch.equal(*orders)
    assert torch.equal(orders[0].sort().values, data.train.labels.sort().values)
    assert torch.equal(torch.cat([labels for _, labels in found.test.epoch(0)]), data.test.labels)
    assert found.held_out is not None
    assert data.held_out is not None
    for _ in range(2):  # as often as they are asked for
        assert torch.equal(torch.cat([labels for _, labels in found.held_out]), data.held_out.labels)


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        (True, Augment(4, True)),
        (False, None),
        ("mirror", Augment(0, True)),
        ("reflect", Augment(4, True, reflect=True)),
    ],
)
def test_what_of_the_sets_own_augmentation_is_asked_for(asked: Any, wanted: Augment | None) -> None:
    what = config()
    what = what.model_copy(update={"data": what.data.model_copy(update={"augment": asked})})
    assert augmentation(what, dataclasses.replace(digits(), augment=Augment(4, True))) == wanted
    assert augmentation(what, digits()) is None, "a set without any has none"


def on_disk(side: int) -> Data:
    files = FileSet([Path("a.jpg")] * 10, torch.arange(10), side)
    return dataclasses.replace(digits(), train=files, test=files, augment=Augment(28, False))


def asking(augment: Any) -> RunConfig:
    what = config(batch_size=10)
    return what.model_copy(update={"data": what.data.model_copy(update={"augment": augment})})


def test_images_on_disk_have_colours_to_change_and_no_padding_to_reflect() -> None:
    assert augmentation(asking("color"), on_disk(224)) == Augment(28, False, color=True)
    assert augmentation(asking("mirror"), on_disk(224)) == Augment(0, False)
    assert augmentation(asking(False), on_disk(224)) is None
    with pytest.raises(ValueError, match=r"^data\.augment must be true, color, mirror or false: .*, got 'reflect'$"):
        augmentation(asking("reflect"), on_disk(224))
    with pytest.raises(ValueError, match=r"^data\.augment must be true, mirror, reflect or false: .*, got 'color'$"):
        augmentation(asking("color"), digits())


@pytest.mark.parametrize(("side", "most"), [(97, 501), (224, 94), (448, 23), (3000, 10)])
def test_large_images_are_tested_in_smaller_batches_but_not_below_those_of_training(side: int, most: int) -> None:
    what, data = asking(True), on_disk(side)
    long = dataclasses.replace(data, test=FileSet([Path("a.jpg")] * 600, torch.zeros(600).long(), side))
    facts = {"mean": [0.5] * 3, "std": [0.2] * 3}
    found = CLASSIFICATION.batches(what, long, facts, make_accelerator(what.train), NONE)
    assert found.test.global_sizes[0] == most


def test_a_step_has_the_summed_loss_and_the_right_answers() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    labels = torch.tensor([0, 1, 1])
    options = config().train.model_copy(update={"label_smoothing": 0.1})
    outputs, loss, hits = CLASSIFICATION.step(nn.Identity(), logits, labels, options)
    assert outputs is logits
    torch.testing.assert_close(loss, 3 * F.cross_entropy(logits, labels, label_smoothing=0.1))
    assert int(hits) == 2


class Knowing(nn.Module):
    """Right for the first image of each batch alone."""

    def __init__(self, labels: Tensor) -> None:
        super().__init__()
        self.labels, self.seen = labels, 0

    def forward(self, images: Tensor) -> Tensor:
        labels = self.labels[self.seen : self.seen + len(images)].clone()
        self.seen += len(images)
        labels[1:] = (labels[1:] + 1) % 10
        return 20 * F.one_hot(labels, 10).float()


def test_scores_are_accuracy_and_mean_loss_over_all_batches() -> None:
    what = config(batch_size=512)
    accelerator = make_accelerator(what.train)
    batches = CLASSIFICATION.batches(what, digits(), CLASSIFICATION.facts(digits()), accelerator, NONE).test
    found = CLASSIFICATION.scores(Knowing(digits().test.labels), batches, accelerator)
    assert found.score == len(batches) / 360
    assert found.loss == pytest.approx(20 * (1 - found.score), abs=1e-3)
    assert found.more == {}
