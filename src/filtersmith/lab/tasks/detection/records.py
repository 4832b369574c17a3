"""What a set of images with boxes is: files, what is in them and where, and the names of the classes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from filtersmith.common.options import bad_option

_LONG, _SHORT = 1333, 800  # as torchvision, Detectron and most papers scale images


@dataclass(frozen=True)
class Target:
    """The boxes of one image.

    Args:
        boxes: float32 (n, 4), x1 y1 x2 y2 in pixels of the file; a box as large as the image is 0 0 width height.
        labels: int64 (n,), class numbers from 1; 0 is the background.
        ignored: bool (n,), boxes that are not trained on, and neither right nor wrong when tested: what VOC calls
            difficult, and COCO a crowd.
    """

    boxes: Tensor
    labels: Tensor
    ignored: Tensor

    def __post_init__(self) -> None:
        count = len(self.boxes)
        wanted = {"boxes": (torch.float32, (count, 4)), "labels": (torch.int64, (count,))}
        for name, (dtype, shape) in {**wanted, "ignored": (torch.bool, (count,))}.items():
            found: Tensor = getattr(self, name)
            if found.dtype != dtype or found.shape != shape:
                raise ValueError(f"{name} must be {dtype} of shape {shape}, got {found.dtype} {tuple(found.shape)}")

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def counted(self) -> Tensor:
        """int64: the labels of the boxes that are not ignored."""
        return self.labels[~self.ignored]


class Sample(NamedTuple):
    """One image as it is read.

    Attributes:
        file: the image.
        target: what is in it.
        size: its height and width in pixels.
    """

    file: Path
    target: Target
    size: tuple[int, int]


class Layout(NamedTuple):
    """A set as it lies on disk, before anything is left out of it.

    Attributes:
        train: images to train on.
        test: images to test on.
        classes: without the background.
        notes: which lists or files were read, a line each.
    """

    train: list[Sample]
    test: list[Sample]
    classes: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class DetectionSet:
    """One split: images that stay on disk, each with its boxes. Images without boxes belong to it.

    Args:
        files: N image files.
        targets: What is in each.
        sizes: (height, width) of each file in pixels.
        size: Length in pixels that the short side of every image is scaled to; ``None`` leaves them as they are.
    """

    files: tuple[Path, ...]
    targets: tuple[Target, ...]
    sizes: tuple[tuple[int, int], ...]
    size: int | None

    def __post_init__(self) -> None:
        if not len(self.files) == len(self.targets) == len(self.sizes):
            counts = f"{len(self.files)} files, {len(self.targets)} targets and {len(self.sizes)} sizes"
            raise ValueError(f"each image has a file, a target and a size, got {counts}")
        if self.size is not None and (not isinstance(self.size, int) or self.size < 1):
            raise bad_option("data.image_size", self.size, "a whole number of pixels >= 1")

    @staticmethod
    def of(samples: Iterable[Sample], size: int | None) -> DetectionSet:
        """Of these images, scaled to ``size``."""
        rows = list(samples)
        files, targets, sizes = zip(*rows, strict=True) if rows else ((), (), ())
        return DetectionSet(files, targets, sizes, size)

    def __len__(self) -> int:
        return len(self.files)

    def part(self, numbers: Iterable[int]) -> DetectionSet:
        """Some of its images, by number."""
        rows = zip(self.files, self.targets, self.sizes, strict=True)
        samples = [Sample(*row) for row in rows]
        return DetectionSet.of((samples[number] for number in numbers), self.size)

    def boxes_by_class(self, classes: int) -> list[int]:
        """How many boxes there are of each of so many classes; ignored ones are not counted."""
        labels = torch.cat([target.counted for target in self.targets]) if self.targets else torch.zeros(0).long()
        counts: list[int] = labels.bincount(minlength=classes + 1)[1:].tolist()
        return counts


@dataclass(frozen=True)
class DetectionData:
    """A set of images with boxes, ready for training.

    Args:
        name: As the user typed it, for example ``voc:../data/bccd-voc``.
        title: For tables and headings.
        train: Training split.
        test: Test split; scaled to the same size.
        classes: Name of each class without the background; label k is ``classes[k - 1]``.
        notes: What a person should know of how the set was read (what was skipped, which splits), a line each.
        held_out: Images kept out of ``train``, for methods that choose by data; ``None`` where nothing is held out.
    """

    name: str
    title: str
    train: DetectionSet
    test: DetectionSet
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    held_out: DetectionSet | None = None

    @property
    def num_classes(self) -> int:
        """Without the background."""
        return len(self.classes)

    @property
    def channels(self) -> int:
        """Always 3: the files are read as RGB."""
        return 3

    @property
    def image_size(self) -> int | None:
        """Length in pixels that the short side of every image is scaled to."""
        return self.train.size


def longest_side(size: int) -> int:
    """Pixels that the long side may have where the short one is scaled to ``size``.

    >>> longest_side(800), longest_side(128)
    (1333, 213)
    """
    return size * _LONG // _SHORT


def scaled_size(height: int, width: int, size: int | None) -> tuple[int, int]:
    """Height and width of an image whose short side becomes ``size`` pixels, or less where the other got too long.

    >>> scaled_size(480, 640, 128), scaled_size(100, 400, 128), scaled_size(480, 640, None)
    ((128, 171), (53, 213), (480, 640))
    """
    if size is None:
        return height, width
    short, long = min(height, width), max(height, width)
    scale = min(size / short, longest_side(size) / long)
    return max(1, round(height * scale)), max(1, round(width * scale))
