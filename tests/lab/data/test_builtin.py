"""Sets that are known by name: digits, and those that torchvision reads."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from filtersmith.lab.data import Augment, ImageSet, load


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


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    with pytest.raises(ValueError, match=r'torchvision is not installed: pip install "filtersmith\[vision\]"'):
        load("cifar10")
