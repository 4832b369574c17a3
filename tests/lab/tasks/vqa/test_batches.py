"""Batches of questions: the right images and words, a pure function of (seed, epoch) however they are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from reference.crop_flip import normalise_one_by_one
from reference.pictures import write
from torch import Tensor

from filtersmith.lab.data import Augment, Batching
from filtersmith.lab.tasks.vqa.batches import QuestionBatches, image_stats, load_images
from filtersmith.lab.tasks.vqa.records import QuestionSet

CPU = torch.device("cpu")
COUNT, IMAGES = 23, 5


def questions(label: int = 0) -> QuestionSet:
    """Question k is about image k % 5, has 1 to 4 words k + 2, and the label k, every fourth one -1."""
    own = torch.arange(COUNT)
    lengths = own % 4 + 1
    tokens = (own[:, None] + 2) * (torch.arange(4) < lengths[:, None])
    labels = torch.where(own % 4 == 3, -1, own) if label == 0 else torch.full_like(own, label)
    files = tuple(Path(f"{k}.png") for k in range(IMAGES))
    return QuestionSet(files, own % IMAGES, tokens, lengths, labels, (("x",),) * COUNT, ("other",) * COUNT, own)


def pictures() -> Tensor:
    return torch.randint(256, (IMAGES, 3, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def batches(size: int = 5, images: Tensor | None = None, training: bool = True, **options: Any) -> QuestionBatches:
    mean, std = image_stats(pictures())
    batching = Batching(size, CPU, mean, std, **({"shuffle": training, "seed": 0} | options))
    return QuestionBatches(questions(), pictures() if images is None else images, batching, training=training)


def flat(made: Any) -> list[list[Tensor]]:
    return [[*inputs, *([labels] if isinstance(labels, Tensor) else labels)] for inputs, labels in made]


def same(ours: Any, theirs: Any) -> bool:
    one, other = flat(ours), flat(theirs)
    return len(one) == len(other) and all(
        torch.equal(a, b) for left, right in zip(one, other, strict=True) for a, b in zip(left, right, strict=True)
    )


def test_testing_goes_through_all_questions_in_order() -> None:
    made = list(batches(10, training=False).epoch(0))
    numbers = torch.cat([own for _, (_, own) in made])
    assert numbers.tolist() == list(range(COUNT))
    assert torch.equal(torch.cat([labels for _, (labels, _) in made]), questions().label)
    mean, std = image_stats(pictures())
    expected = normalise_one_by_one(pictures(), mean, std)[torch.arange(COUNT) % IMAGES]
    images = torch.cat([inputs[0] for inputs, _ in made])
    torch.testing.assert_close(images.double(), expected, rtol=1e-5, atol=1e-5)
    assert images.dtype == torch.float32
    assert made[0][0][0].is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(torch.cat([inputs[2] for inputs, _ in made]), questions().lengths)
    for (_, tokens, lengths), (_, own) in made:
        assert torch.equal(tokens, questions().tokens[own, : int(lengths.max())])


def test_training_leaves_out_what_has_no_answer() -> None:
    loader = batches(4, seed=3)
    made = list(loader.epoch(2))
    labels = torch.cat([labels for _, labels in made])
    assert sorted(labels.tolist()) == [k for k in range(COUNT) if k % 4 != 3]
    assert labels.tolist() != sorted(labels.tolist())
    assert loader.global_sizes == [len(labels) for _, labels in made] == [4, 4, 4, 4, 2]
    assert len(loader) == 5
    mean, std = image_stats(pictures())
    expected = normalise_one_by_one(pictures(), mean, std)
    for (images, tokens, lengths), own in made:
        torch.testing.assert_close(images.double(), expected[own % IMAGES], rtol=1e-5, atol=1e-5)
        assert torch.equal(lengths, own % 4 + 1)
        assert tokens.shape == (len(own), int(lengths.max()))
        assert torch.equal(tokens[:, 0], own + 2)


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    loader = batches()
    assert same(loader.epoch(1), batches().epoch(1))
    assert not same(loader.epoch(0), loader.epoch(1))
    assert not same(loader.epoch(0), batches(seed=1).epoch(0))


def test_global_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    list(batches().epoch(0))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("start", [0, 1, 3])
def test_an_epoch_goes_on_at_any_batch(training: bool, start: int) -> None:
    loader = batches(training=training)
    assert same(list(loader.epoch(4))[start:], loader.epoch(4, start))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_processes_share_each_batch(training: bool, world_size: int) -> None:
    alone = flat(batches(training=training).epoch(2, 1))
    ranks = [flat(batches(training=training, rank=r, world_size=world_size).epoch(2, 1)) for r in range(world_size)]
    for batch, parts in zip(alone, zip(*ranks, strict=True), strict=True):
        joined = [torch.cat(pieces) for pieces in zip(*parts, strict=True)]
        assert all(torch.equal(a, b) for a, b in zip(batch, joined, strict=True))


def test_features_are_taken_as_they_are() -> None:
    features = torch.randn(IMAGES, 7)
    for (images, _, _), (_, own) in batches(images=features, training=False).epoch(0):
        assert torch.equal(images, features[own % IMAGES])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="there are 4 images of 5 files"):
        batches(images=pictures()[:4])
    with pytest.raises(ValueError, match="are not augmented"):
        batches(augment=Augment(1, True))
    batching = Batching(5, CPU, [0.5] * 3, [0.5] * 3)
    with pytest.raises(ValueError, match="no question has an answer that can be chosen"):
        QuestionBatches(questions(-1), pictures(), batching, training=True)
    with pytest.raises(ValueError, match="there are no questions"):
        QuestionBatches(questions().part([]), pictures()[:0], batching, training=False)
    with pytest.raises(ValueError, match="start must be from 0 to 4"):
        batches().epoch(0, 5)


def test_images_are_loaded_once_each(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{k}.png", seed=k, channels=channels) for k, channels in enumerate((3, 1))]
    both, grey = load_images(files, 8), load_images(files[1:], 8)
    assert both.dtype == torch.uint8
    assert both.shape == (2, 3, 8, 8)
    assert torch.equal(grey, both[1:])
    assert torch.equal(grey[:, 0], grey[:, 2])
    assert load_images(files, 4).shape == (2, 3, 4, 4)
    files[1].write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"1\.png cannot be read as an image"):
        load_images(files, 8)


def test_statistics_count_each_image_once() -> None:
    mean, std = image_stats(pictures())
    values = pictures().double().permute(1, 0, 2, 3).flatten(1) / 255
    torch.testing.assert_close(mean.double(), values.mean(1), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(std.double(), values.std(1, unbiased=False), rtol=1e-6, atol=1e-6)
