"""Batches of small images: right pixels, and a pure function of (seed, epoch) however they are asked for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference.crop_flip import crop_flip_one_by_one, normalise_one_by_one
from torch import Tensor

from filtersmith.lab.data import Augment, Batches, Batching, ImageSet, channel_stats, make_batches

CPU = torch.device("cpu")


def image_set(count: int = 23, channels: int = 3, height: int = 6, width: int = 6) -> ImageSet:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (count, channels, height, width), dtype=torch.uint8, generator=generator)
    return ImageSet(images, torch.arange(count))  # the label tells which image it is


def batches(images: ImageSet | None = None, size: int = 5, **options: Any) -> Batches:
    images = images or image_set()
    mean, std = channel_stats(images)
    standard: dict[str, Any] = {"augment": Augment(2, True), "shuffle": True, "seed": 0}
    return Batches(images, Batching(size, CPU, mean, std, **(standard | options)))


def same(ours: list[tuple[Tensor, Tensor]], theirs: list[tuple[Tensor, Tensor]]) -> bool:
    return len(ours) == len(theirs) and all(
        torch.equal(a, b) and torch.equal(c, d) for (a, c), (b, d) in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 6, 6), (3, 5, 7)])
def test_evaluation_batches_are_the_split_normalised_in_order(shape: tuple[int, int, int]) -> None:
    images = image_set(13, *shape)
    mean, std = channel_stats(images)
    made = list(batches(images, augment=None, shuffle=False).epoch(0))
    pixels = torch.cat([x for x, _ in made])
    torch.testing.assert_close(pixels.double(), normalise_one_by_one(images.images, mean, std), rtol=1e-5, atol=1e-5)
    assert torch.cat([y for _, y in made]).tolist() == list(range(13))
    assert [len(y) for _, y in made] == [5, 5, 3]
    assert made[0][0].dtype == torch.float32
    assert made[0][0].is_contiguous(memory_format=torch.channels_last)


def test_training_batches_hold_each_image_once_augmented_as_the_slow_code_does() -> None:
    # pad and flip can be undone on images whose pixels name their place
    images = image_set(40, 1, 4, 4)
    made = list(batches(images, 7, seed=3).epoch(2))
    labels = torch.cat([y for _, y in made])
    assert sorted(labels.tolist()) == list(range(40))
    assert labels.tolist() != sorted(labels.tolist())
    mean, std = channel_stats(images)
    pixels = torch.cat([x for x, _ in made])
    restored = (pixels * std.view(1, -1, 1, 1) + mean.view(1, -1, 1, 1)).mul(255).round().to(torch.uint8)
    for label, image in zip(labels.tolist(), restored, strict=True):
        variants = [(y, x, flip) for y in range(5) for x in range(5) for flip in (False, True)]
        top, left, flip = (torch.tensor(part) for part in zip(*variants, strict=True))
        possible = crop_flip_one_by_one(images.images[[label] * 50], 2, top, left, flip)
        assert (possible == image).flatten(1).all(1).any()


@given(
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 500),
    start=st.integers(0, 5),
    size=st.integers(1, 30),
)
def test_a_resumed_epoch_continues_bit_for_bit(seed: int, epoch: int, start: int, size: int) -> None:
    whole = list(batches(size=size, seed=seed).epoch(epoch))
    again = batches(size=size, seed=seed)
    start = min(start, len(again))
    assert len(whole) == len(again) == -(-23 // size)
    assert [len(labels) for _, labels in whole] == again.global_sizes
    assert same(list(again.epoch(epoch, start)), whole[start:])


@given(size=st.integers(1, 30), world=st.integers(1, 4), epoch=st.integers(0, 9))
def test_the_ranks_batches_join_to_the_batch_of_one_process(size: int, world: int, epoch: int) -> None:
    world = min(world, size)
    alone = list(batches(size=size).epoch(epoch))
    ranks = [list(batches(size=size, rank=rank, world_size=world).epoch(epoch)) for rank in range(world)]
    joined = [tuple(torch.cat(parts) for parts in zip(*pieces, strict=True)) for pieces in zip(*ranks, strict=True)]
    assert same(joined, alone)
    for pieces in zip(*ranks, strict=True):
        lengths = [len(labels) for _, labels in pieces]
        assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("chunk", [1, 2 * 5 * 3 * 6 * 6 * 4])  # one batch, two batches
def test_how_many_batches_are_made_together_does_not_matter(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    together = [list(batches(rank=rank, world_size=2).epoch(1, start)) for rank in (0, 1) for start in (0, 2)]
    monkeypatch.setattr("filtersmith.lab.data.batches._CHUNK", chunk)
    apart = [list(batches(rank=rank, world_size=2).epoch(1, start)) for rank in (0, 1) for start in (0, 2)]
    assert all(same(ours, theirs) for ours, theirs in zip(apart, together, strict=True))


def test_epochs_and_seeds_differ_and_do_not_disturb_each_other() -> None:
    one = batches()
    assert not same(list(one.epoch(0)), list(one.epoch(1)))
    assert not same(list(one.epoch(0)), list(batches(seed=1).epoch(0)))
    assert not same(list(batches(seed=0).epoch(1)), list(batches(seed=1).epoch(0)))
    first, second = one.epoch(0), one.epoch(1)  # two epochs at once
    mixed = [next(first), next(second), next(first)]
    assert same(mixed[::2], list(one.epoch(0))[:2])


def test_global_random_state_is_neither_read_nor_changed() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = list(batches().epoch(0))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert same(list(batches().epoch(0)), first)


def test_the_split_itself_is_left_alone() -> None:
    images = ImageSet(image_set().images.contiguous(memory_format=torch.channels_last), image_set().labels)
    list(batches(images).epoch(0))
    assert torch.equal(images.images, image_set().images)


def test_channel_stats_are_those_of_the_pixels() -> None:
    images = image_set(50)
    mean, std = channel_stats(images)
    pixels = images.images.double() / 255
    torch.testing.assert_close(mean.double(), pixels.mean((0, 2, 3)))
    torch.testing.assert_close(std.double(), pixels.std((0, 2, 3), correction=0))


def test_a_constant_channel_gives_no_infinities() -> None:
    images = ImageSet(torch.full((5, 1, 4, 4), 7, dtype=torch.uint8), torch.zeros(5, dtype=torch.int64))
    (pixels, _), *_ = batches(images, augment=None).epoch(0)
    assert pixels.abs().max() < 1e-6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "batch_size must be a whole number >= 1, got 0"),
        ({"world_size": 6}, "world_size must be from 1 to the global batch size of 5, got 6"),
        ({"rank": 2, "world_size": 2}, "rank must be from 0 to 1, got 2"),
        ({"seed": -1}, "seed must be a whole number >= 0, got -1"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        batches(**options)


def test_bad_epochs_and_statistics_are_named() -> None:
    with pytest.raises(ValueError, match=r"start must be from 0 to 5.*got 6"):
        batches().epoch(0, 6)
    with pytest.raises(ValueError, match=r"epoch must be .*got -1"):
        batches().epoch(-1)
    with pytest.raises(ValueError, match="std must be one number per channel, 3 in all, got"):
        Batches(image_set(), Batching(5, CPU, mean=[0, 0, 0], std=[1]))


def test_make_batches_keeps_small_images_on_the_device() -> None:
    images = image_set()
    batching = Batching(5, CPU, mean=[0.5] * 3, std=[0.2] * 3, augment=Augment(2, True), shuffle=True)
    made, direct = make_batches(images, batching), Batches(images, batching)
    assert isinstance(made, Batches)
    assert same(list(made.epoch(4)), list(direct.epoch(4)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_batches_are_the_cpu_batches() -> None:
    images = image_set()
    mean, std = channel_stats(images)
    cuda = Batches(images, Batching(5, torch.device("cuda"), mean, std, augment=Augment(2, True), shuffle=True))
    for (x, y), (expected, labels) in zip(cuda.epoch(3), batches().epoch(3), strict=True):
        assert torch.equal(x.cpu(), expected)
        assert torch.equal(y.cpu(), labels)
