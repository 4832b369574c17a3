"""Batches of large images from disk: the same promises as those of small images."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import socket
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("torchvision")

from PIL import Image
from reference.pictures import class_folders, pixels, write
from reference.running import assert_same, command, ended, fork, weights

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
from filtersmith.lab.data.decode import decode, fit
from filtersmith.lab.training.folder import RunFolder
from filtersmith.lab.training.session import Session

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
    standard: dict[str, Any] = {"augment": Augment(1, True), "shuffle": True, "seed": 0}
    batching = Batching(size, CPU, mean=[0.5] * 3, std=[0.25] * 3, **(standard | options))
    made = make_batches(files, batching, workers=workers)
    assert isinstance(made, StreamBatches)
    return made


def same(ours: list[tuple[Tensor, Tensor]], theirs: list[tuple[Tensor, Tensor]]) -> bool:
    return len(ours) == len(theirs) and all(
        torch.equal(a, b) and torch.equal(c, d) for (a, c), (b, d) in zip(ours, theirs, strict=True)
    )


def test_evaluation_is_of_the_centre_normalised(files: FileSet) -> None:
    images = torch.stack([fit(decode(file.read_bytes()).expand(3, -1, -1), 100, 0.875) for file in files.files])
    made = list(stream(files, augment=None, shuffle=False).epoch(0))
    pixels = torch.cat([x for x, _ in made])
    assert pixels.shape == (13, 3, 100, 100)
    torch.testing.assert_close(pixels, (images / 255 - 0.5) / 0.25)
    assert torch.equal(torch.cat([y for _, y in made]), files.labels)
    assert made[0][0].is_contiguous(memory_format=torch.channels_last)
    plain = next(stream(files, augment=None, shuffle=False, channels_last=False).epoch(0))[0]
    assert plain.is_contiguous()
    assert torch.equal(plain, made[0][0])


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
    one = FileSet([files.files[0]] * 40, files.labels[:1].expand(40), files.size)
    pixels = torch.cat([x for x, _ in stream(one, augment=Augment(1, False)).epoch(0)])
    assert len(pixels.flatten(1).unique(dim=0)) == 40
    mirrored = torch.cat([x for x, _ in stream(one).epoch(0)])
    kept = (pixels == mirrored).flatten(1).all(1)
    assert torch.equal(mirrored[~kept], pixels[~kept].flip(3))
    assert 8 < kept.sum() < 32


def test_each_image_has_random_colours_of_its_own_whatever_the_workers(files: FileSet) -> None:
    colours = Augment(1, True, color=True)
    whole = list(stream(files, augment=colours).epoch(2))
    assert same(list(stream(files, workers=2, augment=colours).epoch(2, start=1)), whole[1:])
    assert same(list(stream(files, size=3, augment=colours).epoch(2))[:1], [(whole[0][0][:3], whole[0][1][:3])])
    assert not same(list(stream(files).epoch(2)), whole)


def test_workers_stay_and_serve_epochs_that_are_broken_off_or_stand_side_by_side(files: FileSet) -> None:
    expected = [list(stream(files, size=2).epoch(epoch)) for epoch in range(4)]
    made = stream(files, size=2, workers=2)
    assert same(list(made.epoch(0)), expected[0])
    workers = {child.pid for child in multiprocessing.active_children()}
    broken = made.epoch(1)
    assert same([next(broken)], expected[1][:1])
    broken.close()
    assert same(list(made.epoch(2)), expected[2])
    assert {child.pid for child in multiprocessing.active_children()} == workers
    pairs = list(zip(made.epoch(1), made.epoch(3), strict=True))
    assert same([one for one, _ in pairs], expected[1])
    assert same([other for _, other in pairs], expected[3])


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
        broken = FileSet([*files.files[:2], file], files.labels[:3], files.size)
        with pytest.raises(ValueError, match=f"^{file} {text}.*$"):
            list(stream(broken, workers=workers).epoch(0))


def test_bad_options_are_named(files: FileSet) -> None:
    with pytest.raises(ValueError, match="workers must be a whole number >= 0, got -1"):
        stream(files, workers=-1)
    with pytest.raises(ValueError, match="batch_size must be a whole number >= 1, got 0"):
        stream(files, size=0)
    with pytest.raises(ValueError, match="start must be from 0 to 3"):
        stream(files).epoch(0, 4)


# --- whole runs, in processes of their own ------------------------------------------------------------------


def train_on(
    folder: Path, out: Path, *more: str, accident: int = 0, environment: dict[str, str] | None = None
) -> None:
    """The command line on image files with two workers; kills itself at that batch of training."""
    multiprocessing.current_process().daemon = False  # may have workers,
    multiprocessing.set_start_method("fork", force=True)  # which need not import all anew
    os.environ |= environment or {}
    if accident:
        step, count = Session._train_batch, itertools.count(1)

        def dangerous(*arguments: Any) -> Any:
            if next(count) == accident:
                os.kill(os.getpid(), signal.SIGKILL)
            return step(*arguments)

        Session._train_batch = dangerous  # type: ignore[method-assign]
    options = ["--data", f"imagefolder:{folder}", "--model", "lenet5", "--method", "wau", "--epochs", "2", *more]
    for setting in ("data.image_size=100", "data.augment=color", "train.batch_size=6", "train.device=cpu"):
        options += ["--set", setting]
    command("train", *options, "--set", "train.lr=0.02", "--resume", "auto", "--out", str(out))


@pytest.fixture(scope="module")
def jpegs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """26 files to train on, of which one is grey and one CMYK, and 2 of each class to test on."""
    folder = tmp_path_factory.mktemp("jpegs")
    for split, count in (("train", 13), ("val", 2)):
        for label, name in enumerate(("n01440764", "n01443537")):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                small = Image.fromarray(pixels(100 * label + number, size=(6, 8)))
                mode = {(0, 1): "L", (1, 2): "CMYK"}.get((label, number), "RGB")
                large = small.resize((160 - number, 120 + number), Image.Resampling.BICUBIC).convert(mode)
                large.save(folder / split / name / f"{name}_{number}.JPEG")
    return folder


def test_a_run_that_is_killed_in_the_middle_of_an_epoch_goes_on_bit_for_bit(jpegs: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert ended(fork(train_on, jpegs, whole, "--set", "train.workers=0")) == 0
    assert ended(fork(partial(train_on, accident=9), jpegs, killed)) == -signal.SIGKILL
    assert len(RunFolder(killed).read_metrics()) == 1
    assert ended(fork(train_on, jpegs, killed)) == 0
    assert_same(weights(whole), weights(killed))
    histories = [RunFolder(out).read_metrics() for out in (whole, killed)]
    assert [epoch.train_loss for epoch in histories[0]] == [epoch.train_loss for epoch in histories[1]]
    assert len(histories[0]) == 2


def test_two_processes_train_what_one_trains(jpegs: Path, tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    told = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    told |= {"GLOO_SOCKET_IFNAME": "lo"}
    both = [
        fork(
            partial(train_on, environment={**told, "RANK": rank, "LOCAL_RANK": rank}),
            jpegs,
            tmp_path / "two",
            *("--set", "train.workers=1"),
        )
        for rank in "01"
    ]
    assert [ended(process) for process in both] == [0, 0]
    assert ended(fork(train_on, jpegs, tmp_path / "one", "--set", "train.workers=0")) == 0
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=1e-5, msg=name)
