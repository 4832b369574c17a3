"""Batches of large images from disk: the same promises as those of small images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("torchvision")

from reference.pictures import class_folders, write

from filtersmith.lab.data import (
    Augment,
    Batching,
    FileSet,
    ImageSet,
    StreamBatches,
    channel_stats,
    load,
    make_batches,
)

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> FileSet:
    folder = tmp_path_factory.mktemp("large")
    class_folders(folder / "train", 6, size=(110, 140))
    write(folder / "train" / "dog" / "grey.png", 9, size=(120, 100), channels=1)
    class_folders(folder / "test", 1, size=(110, 140))
    split = load(f"imagefolder:{folder}", image_size=100).train
    assert isinstance(split, FileSet)
    return split


def stream(files: FileSet, workers: int = 0, size: int = 5, **options: Any) -> StreamBatches:
    standard: dict[str, Any] = {"augment": Augment(0, True), "shuffle": True, "seed": 0}
    batching = Batching(size, CPU, mean=[0.5] * 3, std=[0.25] * 3, **(standard | options))
    made = make_batches(files, batching, workers=workers)
    assert isinstance(made, StreamBatches)
    return made


def same(ours: list[tuple[Tensor, Tensor]], theirs: list[tuple[Tensor, Tensor]]) -> bool:
    return len(ours) == len(theirs) and all(
        torch.equal(a, b) and torch.equal(c, d) for (a, c), (b, d) in zip(ours, theirs, strict=True)
    )


def test_evaluation_is_the_set_in_memory_normalised(files: FileSet) -> None:
    from filtersmith.lab.data.stream import sample

    images = sample(files, 100)
    made = list(stream(files, augment=None, shuffle=False).epoch(0))
    pixels = torch.cat([x for x, _ in made])
    assert pixels.shape == (13, 3, 100, 100)
    torch.testing.assert_close(pixels, (images.images / 255 - 0.5) / 0.25)
    assert torch.equal(torch.cat([y for _, y in made]), files.labels)
    assert made[0][0].is_contiguous(memory_format=torch.channels_last)


def test_an_epoch_does_not_depend_on_workers_start_or_global_random_state(files: FileSet) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    whole = list(stream(files).epoch(3))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert len(whole) == len(stream(files)) == 3
    assert same(list(stream(files, workers=2).epoch(3)), whole)
    assert same(list(stream(files, workers=1).epoch(3, start=2)), whole[2:])
    assert list(stream(files).epoch(3, start=3)) == []
    assert not same(list(stream(files).epoch(4)), whole)
    assert not same(list(stream(files, seed=1).epoch(3)), whole)


def test_the_ranks_batches_join_to_the_batch_of_one_process(files: FileSet) -> None:
    alone = list(stream(files, size=4).epoch(1))  # the last batch has one image: two ranks get none of it
    ranks = [list(stream(files, size=4, rank=rank, world_size=3).epoch(1)) for rank in range(3)]
    joined = [tuple(torch.cat(parts) for parts in zip(*pieces, strict=True)) for pieces in zip(*ranks, strict=True)]
    assert same(joined, alone)


def test_training_images_are_cropped_and_mirrored_anew_each_epoch(files: FileSet) -> None:
    one = FileSet(files.files[:1] * 40, files.labels[:1].expand(40), files.size)
    pixels = torch.cat([x for x, _ in stream(one, augment=Augment(0, False)).epoch(0)])
    assert len(pixels.flatten(1).unique(dim=0)) == 40
    mirrored = torch.cat([x for x, _ in stream(one).epoch(0)])
    kept = (pixels == mirrored).flatten(1).all(1)
    assert torch.equal(mirrored[~kept], pixels[~kept].flip(3))
    assert 8 < kept.sum() < 32


def test_statistics_come_from_a_sample(files: FileSet) -> None:
    from filtersmith.lab.data.stream import sample

    mean, std = channel_stats(files)
    exact, spread = channel_stats(sample(files, 13))
    assert torch.equal(mean, exact)
    assert torch.equal(std, spread)
    assert isinstance(sample(files, 4), ImageSet)
    assert sample(files, 4).labels.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_file_is_one_line(files: FileSet, tmp_path: Path, workers: int) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    missing = tmp_path / "missing.png"
    for file, text in ((bad, "cannot be read as an image"), (missing, "cannot be read: No such file")):
        broken = FileSet((*files.files[:2], file), files.labels[:3], files.size)
        with pytest.raises(ValueError, match=f"^{file} {text}.*$"):
            list(stream(broken, workers=workers).epoch(0))


def test_bad_options_are_named(files: FileSet) -> None:
    with pytest.raises(ValueError, match="workers must be a whole number >= 0, got -1"):
        stream(files, workers=-1)
    with pytest.raises(ValueError, match="batch_size must be a whole number >= 1, got 0"):
        stream(files, size=0)
    with pytest.raises(ValueError, match="start must be from 0 to 3"):
        stream(files).epoch(0, 4)
