"""Sets known by name: scikit-learn's digits, and those that torchvision reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from filtersmith.lab.data.decode import fit, need
from filtersmith.lab.data.defaults import augment_for
from filtersmith.lab.data.records import Data, ImageSet
from filtersmith.lab.data.split import TEST_FRACTION

# title, torchvision's class, what it expects in the folder
_TORCHVISION = {
    "cifar10": ("CIFAR-10", "CIFAR10", "cifar-10-batches-py/data_batch_1"),
    "cifar100": ("CIFAR-100", "CIFAR100", "cifar-100-python/train"),
    "svhn": ("SVHN", "SVHN", "train_32x32.mat and test_32x32.mat"),
}


def load_digits(image_size: int | None) -> Data:
    """The 8x8 digits, 0..16 scaled to 0..255, a fifth of each class held out. No augmentation: a mirrored
    digit is another digit, and a shift of one pixel is much in eight."""
    from sklearn.datasets import load_digits as sklearn_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = sklearn_digits(return_X_y=True)
    images = np.rint(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    parts = train_test_split(images, labels, test_size=TEST_FRACTION, random_state=0, stratify=labels)
    return Data(
        name="digits",
        title="digits",
        train=_image_set(parts[0], parts[2], image_size),
        test=_image_set(parts[1], parts[3], image_size),
        classes=tuple(str(digit) for digit in range(10)),
        augment=None,
    )


def load_torchvision(name: str, root: str, image_size: int | None) -> Data:
    """CIFAR-10, CIFAR-100 or SVHN from ``root``, downloaded to it where absent."""
    title, class_name, layout = _TORCHVISION[name]
    splits = []
    for train in (True, False):
        dataset = _open(getattr(need("torchvision.datasets"), class_name), train, root, name, layout)
        if name == "svhn":  # (N, C, H, W) there, (N, H, W, C) in CIFAR
            splits.append((dataset.data.transpose(0, 2, 3, 1), dataset.labels))
        else:
            splits.append((dataset.data, dataset.targets))
    classes = tuple(str(digit) for digit in range(10)) if name == "svhn" else tuple(dataset.classes)
    train_set, test_set = (_image_set(pixels, labels, image_size) for pixels, labels in splits)
    return Data(name, title, train_set, test_set, classes, augment_for(name, train_set.height_width[0]))


def _open(dataset: Any, train: bool, root: str, name: str, layout: str) -> Any:
    which = {"split": "train" if train else "test"} if name == "svhn" else {"train": train}
    try:
        return dataset(root, **which)
    except RuntimeError:  # torchvision's word for absent or damaged
        pass
    except Exception as error:
        raise ValueError(f"data {name!r} in {root} cannot be read: {error}") from error
    try:
        return dataset(root, **which, download=True)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"data {name!r} is not in {root} (expected {root}/{layout} as torchvision lays it out) and could not "
            f"be downloaded: {reason}; data.root or FILTERSMITH_DATA names another folder"
        ) from error


def _image_set(pixels: Any, labels: Any, image_size: int | None) -> ImageSet:
    images = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2)
    if image_size and images.shape[-2:] != (image_size, image_size):
        # in parts: resizing works in float32, four times the size
        images = torch.cat([fit(part, image_size) for part in images.split(1024)])
    return ImageSet(images, torch.as_tensor(np.asarray(labels), dtype=torch.int64))
