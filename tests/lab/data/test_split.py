"""Holding images out: the same ones each time, none twice, none lost."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from filtersmith.lab.data import Data, FileSet, ImageSet, with_held_out, with_limit
from filtersmith.lab.data.split import stratified_split


@settings(max_examples=30)
@given(st.lists(st.integers(5, 40), min_size=2, max_size=4))
def test_a_fifth_of_each_class_in_their_order(sizes: list[int]) -> None:
    labels = torch.cat([torch.full((size,), number) for number, size in enumerate(sizes)])
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(len(labels)))]
    train, test = stratified_split(labels, "set")
    assert sorted([*train.tolist(), *test.tolist()]) == list(range(len(labels)))
    assert train.tolist() == sorted(train.tolist())
    assert test.tolist() == sorted(test.tolist())
    for number, size in enumerate(sizes):
        assert abs(int((labels[test] == number).sum()) - size / 5) <= 1
    assert torch.equal(stratified_split(labels, "set")[1], test), "the same ones each time"


def test_a_class_with_too_few_images_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^pets has no test split, and none can be held out: ") as caught:
        stratified_split(torch.tensor([0] * 10 + [1]), "pets")
    assert "\n" not in str(caught.value)


def sets(count: int = 10) -> tuple[Data, Data]:
    """One set in memory and one on disk; the label tells which image it is."""
    labels = torch.arange(count)
    images = ImageSet(labels.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous(), labels)
    files = FileSet(tuple(Path(f"{n}.png") for n in range(count)), labels, 4)
    names = tuple(map(str, range(count)))
    return Data("m", "m", images, images, names, None), Data("f", "f", files, files, names, None)


def test_held_out_images_are_not_trained_on_and_keep_their_labels() -> None:
    memory, disk = (with_held_out(data, 3) for data in sets())
    for data in (memory, disk):
        assert data.held_out is not None
        assert (len(data.train), len(data.held_out), len(data.test)) == (7, 3, 10)
        assert sorted([*data.train.labels.tolist(), *data.held_out.labels.tolist()]) == list(range(10))
    for part in (memory.train, memory.held_out):
        assert isinstance(part, ImageSet)
        assert torch.equal(part.images[:, 0, 0, 0].long(), part.labels)
    for part, same in ((disk.train, memory.train), (disk.held_out, memory.held_out)):
        assert isinstance(part, FileSet)
        assert same is not None
        assert [file.stem for file in part.files] == [str(label) for label in same.labels.tolist()]
        assert part.size == 4
    assert torch.equal(with_held_out(sets()[0], 3).train.labels, memory.train.labels)


def test_nothing_or_more_than_there_is() -> None:
    data, _ = sets()
    assert with_held_out(data, 0) is data
    assert len(with_held_out(data, 9).train) == 1
    with pytest.raises(ValueError, match=r"^data\.holdout must be below the 10 training images, got 10$"):
        with_held_out(data, 10)


def unequal(*sizes: int) -> Data:
    """A set in memory with classes of these sizes; the image tells which one it is."""
    labels = torch.cat([torch.full((size,), number) for number, size in enumerate(sizes)])
    pixels = torch.arange(len(labels)).to(torch.uint8).view(-1, 1, 1, 1)
    images = ImageSet(pixels.expand(-1, 1, 2, 2).contiguous(), labels)
    return Data("m", "m", images, images, tuple(map(str, range(len(sizes)))), None)


def test_fewer_training_images_of_each_class_alike() -> None:
    data = unequal(100, 50, 25, 1)
    parts = {count: with_limit(data, count).train for count in (4, 36, 90, 176)}
    for count, part in parts.items():
        assert isinstance(part, ImageSet)
        assert len(part) == count
        kept = part.images[:, 0, 0, 0].long()
        assert torch.equal(part.labels, data.train.labels[kept]), "every image keeps its label"
        for label, size in enumerate((100, 50, 25, 1)):
            assert abs(int((part.labels == label).sum()) - max(1, size * count / 176)) <= 1.5
    smaller, larger = (set(parts[count].images[:, 0, 0, 0].tolist()) for count in (36, 90))  # type: ignore[union-attr]
    assert smaller < larger
    assert with_limit(data, None) is data
    assert len(with_limit(data, 36).test) == 176
    for count in (3, 177):
        with pytest.raises(
            ValueError, match=rf"^data\.limit must be from 4 \(one of each class\) to the 176 .* got {count}$"
        ):
            with_limit(data, count)
