"""Sets by name: digits, torchvision's, and names that do not exist."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from filtersmith.lab.data import SOURCES, Augment, Data, ImageSet, load, names
from filtersmith.lab.data.records import validate


def test_digits() -> None:
    data = load("digits")
    assert (data.name, data.title, data.num_classes, data.channels, data.image_size) == ("digits", "digits", 10, 1, 8)
    assert data.augment is None
    assert isinstance(data.train, ImageSet)
    assert (len(data.train), len(data.test)) == (1437, 360)
    assert data.test.labels.bincount().tolist() == [36, 36, 35, 37, 36, 37, 36, 36, 35, 36]
    assert (int(data.train.images.min()), int(data.train.images.max())) == (0, 255)
    again = load("digits").train
    assert isinstance(again, ImageSet)
    assert torch.equal(data.train.images, again.images)


def test_digits_are_resized_on_request() -> None:
    pytest.importorskip("torchvision")
    assert load("digits", image_size=16).image_size == 16


def write_cifar(root: Path, name: str, classes: int) -> list[Any]:
    """The layout of the published archives with 10 images a file; returns the training pixels (N, H, W, C)."""
    rng = np.random.default_rng(0)
    if name == "cifar10":
        folder, labels, meta, label_names = "cifar-10-batches-py", b"labels", "batches.meta", "label_names"
        files = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    else:
        folder, labels, meta, label_names = "cifar-100-python", b"fine_labels", "meta", "fine_label_names"
        files = ["train", "test"]
    (root / folder).mkdir(parents=True)
    written = []
    for file in files:
        data = rng.integers(0, 256, (10, 3 * 32 * 32), dtype=np.uint8)
        content = {"data": data, labels.decode(): [i % classes for i in range(10)]}
        (root / folder / file).write_bytes(pickle.dumps(content))
        if not file.startswith("test"):
            written.append(data.reshape(-1, 3, 32, 32))
    (root / folder / meta).write_bytes(pickle.dumps({label_names: [f"class {i}" for i in range(classes)]}))
    return written


@pytest.mark.parametrize(("name", "title", "classes"), [("cifar10", "CIFAR-10", 10), ("cifar100", "CIFAR-100", 100)])
def test_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, title: str, classes: int) -> None:
    cifar = pytest.importorskip("torchvision.datasets.cifar")
    monkeypatch.setattr(cifar.CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(cifar, "check_integrity", lambda *_: True)
    written = np.concatenate(write_cifar(tmp_path, name, classes))
    monkeypatch.setenv("FILTERSMITH_DATA", str(tmp_path))
    data = load(name)
    assert (data.title, data.num_classes, data.image_size) == (title, classes, 32)
    assert data.classes[1] == "class 1"
    assert data.augment == Augment(pad=4, flip=True)
    assert isinstance(data.train, ImageSet)
    assert np.array_equal(data.train.images, written)
    assert data.train.labels[:10].tolist() == list(range(10))
    assert len(data.test) == 10
    assert load(name, root=str(tmp_path), image_size=16).image_size == 16


def test_svhn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    svhn = pytest.importorskip("torchvision.datasets.svhn")
    from scipy.io import savemat

    monkeypatch.setattr(svhn.SVHN, "_check_integrity", lambda self: True)
    monkeypatch.setattr(svhn, "check_integrity", lambda *_: True)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 10), dtype=np.uint8)
    for split in ("train", "test"):  # 10 stands for the digit 0 in the published files
        savemat(tmp_path / f"{split}_32x32.mat", {"X": pixels, "y": np.arange(1, 11)[:, None]})
    data = load("svhn", root=str(tmp_path))
    assert (data.title, data.num_classes) == ("SVHN", 10)
    assert data.augment == Augment(pad=4, flip=False)  # a mirrored house number is another number
    assert isinstance(data.train, ImageSet)
    assert data.train.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    assert np.array_equal(data.train.images, pixels.transpose(3, 2, 0, 1))


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "svhn"])
def test_an_absent_set_that_cannot_be_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    datasets = pytest.importorskip("torchvision.datasets")

    def offline(self: object) -> None:
        raise OSError("no\nnetwork")

    monkeypatch.setattr(datasets.CIFAR10, "download", offline)
    monkeypatch.setattr(datasets.SVHN, "download", offline)
    with pytest.raises(ValueError, match=f"{name}.* is not in {tmp_path} .*could not be downloaded: no network"):
        load(name, root=str(tmp_path))


def test_a_file_that_is_no_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cifar = pytest.importorskip("torchvision.datasets.cifar")
    monkeypatch.setattr(cifar.CIFAR10, "_check_integrity", lambda self: True)
    write_cifar(tmp_path, "cifar10", 10)
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=f"'cifar10' in {tmp_path} cannot be read"):
        load("cifar10", root=str(tmp_path))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("digit", "unknown data 'digit' (did you mean 'digits'?); known: digits, cifar10"),
        ("cifar10:here", "unknown data 'cifar10:here'"),
        ("", "unknown data ''"),
        ("hf:", "data must be hf: followed by a path or id, got 'hf:'"),
        ("imagefolder", "data must be imagefolder: followed by a path, got 'imagefolder'"),
    ],
)
def test_unknown_names(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        load(name)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize("size", [0, -3, 2.5])
def test_a_bad_image_size(size: Any) -> None:
    with pytest.raises(ValueError, match=rf"data\.image_size must be a whole number of pixels >= 1, got {size}"):
        load("digits", image_size=size)


def test_every_listed_name_has_a_line() -> None:
    assert names() == tuple(SOURCES)
    assert {"digits", "cifar10", "cifar100", "svhn", "imagefolder:PATH", "hf:PATH_OR_ID"} == set(names())
    assert all(line and "\n" not in line for line in SOURCES.values())


def small(count: int = 4, channels: int = 1, side: int = 4, label: int = 1) -> ImageSet:
    labels = torch.arange(count) % 2
    labels[-1:] = label
    return ImageSet(torch.zeros(count, channels, side, side, dtype=torch.uint8), labels)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"train": small(0)}, "set: the train split has no images"),
        ({"test": small(0)}, "set: the test split has no images"),
        ({"test": small(label=2)}, "the test split has label 2 (image 3), but the 2 classes are labelled 0 to 1"),
        ({"train": small(label=-1)}, "the train split has label -1 (image 3)"),
        ({"test": small(side=5)}, "training images are 4x4 pixels with 1 channel, test images 5x5 pixels"),
        ({"test": small(channels=3)}, "with 1 channel, test images 4x4 pixels with 3 channels"),
        ({"classes": ("a",)}, "at least 2 classes are needed, found ['a']"),
    ],
)
def test_validate_names_what_is_wrong(changes: dict[str, Any], text: str) -> None:
    good = Data("set", "set", small(), small(), ("a", "b"), None)
    assert validate(good) is good
    with pytest.raises(ValueError, match=r".") as caught:
        validate(dataclasses.replace(good, **changes))
    assert text in str(caught.value)


def test_an_image_set_is_what_it_says() -> None:
    with pytest.raises(ValueError, match="images must be uint8"):
        ImageSet(torch.zeros(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="labels must be int64"):
        ImageSet(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64))


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    with pytest.raises(ValueError, match=r'torchvision is not installed: pip install "filtersmith\[vision\]"'):
        load("cifar10")
