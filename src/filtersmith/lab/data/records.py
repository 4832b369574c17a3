"""What a loaded data set is: two splits, the names of the classes, and how its images may be augmented."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from filtersmith.common.words import plural


@dataclass(frozen=True)
class Augment:
    """Training augmentation: of small images black padding, a random crop of the old size, a mirror image.

    Args:
        pad: Pixels added on each side before the crop; 0 switches the crop off. Images on disk are cropped without
            padding, by torchvision's RandomResizedCrop.
        flip: Mirror each image left to right with probability 1/2.
        reflect: Pad with what is at the edge, mirrored, in place of black; of images in memory.
        color: Change brightness, contrast, saturation and lighting; of images on disk.
    """

    pad: int
    flip: bool
    reflect: bool = False
    color: bool = False

    def __post_init__(self) -> None:
        if self.pad < 0:
            raise ValueError(f"augment.pad must be a whole number of pixels >= 0, got {self.pad}")


@dataclass(frozen=True)
class ImageSet:
    """One split held in memory.

    Args:
        images: uint8 (N, C, H, W); loaders leave it in channels-last memory, which batches are cut from.
        labels: int64 (N,), class numbers from 0.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.dim() != 4:
            raise ValueError(
                f"images must be uint8 of shape (N, C, H, W), got {self.images.dtype} {tuple(self.images.shape)}"
            )
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise ValueError(
                f"labels must be int64 of shape ({self.images.shape[0]},), "
                f"got {self.labels.dtype} {tuple(self.labels.shape)}"
            )

    def __len__(self) -> int:
        return self.images.shape[0]

    @property
    def channels(self) -> int:
        return self.images.shape[1]

    @property
    def height_width(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.images.shape[2], self.images.shape[3]


@dataclass(frozen=True)
class FileSet:
    """One split that stays on disk: image files too large to hold in memory, decoded as they are needed.

    Args:
        files: N image files; `Names` where there may be very many.
        labels: int64 (N,), class numbers from 0.
        size: Side in pixels of the square that every image is brought to.
    """

    files: Sequence[Path]
    labels: Tensor
    size: int

    def __len__(self) -> int:
        return len(self.files)

    @property
    def channels(self) -> int:
        """Always 3: the files are read as RGB."""
        return 3

    @property
    def height_width(self) -> tuple[int, int]:
        """Height and width in pixels, after resizing."""
        return self.size, self.size


@dataclass(frozen=True)
class Sizes:
    """Between what bounds the heights and widths of images lie, in pixels."""

    heights: tuple[int, int]
    widths: tuple[int, int]

    @staticmethod
    def of(sizes: Iterable[tuple[int, int]]) -> Sizes:
        """Of images of these heights and widths."""
        heights, widths = zip(*sizes, strict=True)
        return Sizes((min(heights), max(heights)), (min(widths), max(widths)))

    def joined(self, other: Sizes) -> Sizes:
        """Of these images and those of ``other``."""
        corners = [(one.heights[end], one.widths[end]) for one in (self, other) for end in (0, 1)]
        return Sizes.of(corners)


@dataclass(frozen=True)
class Data:
    """A data set ready for training.

    Args:
        name: As the user typed it, for example ``hf:../data/cifar10-jpeg``.
        title: For tables and headings, for example ``CIFAR-10 (JPEG)``.
        train: Training split.
        test: Test split; of the same kind and image size as ``train``.
        classes: Name of each class; a label is a place in it.
        augment: What training may do to the images of this set; None when nothing is harmless.
        held_out: Images kept out of ``train``, for methods that choose by data; None where nothing is held out.
        notes: What a person should know of how the set was read (files skipped, splits not used), a line each.
        sizes: Of the images before they were resized; None where they were not, or nobody looked.
    """

    name: str
    title: str
    train: ImageSet | FileSet
    test: ImageSet | FileSet
    classes: tuple[str, ...]
    augment: Augment | None
    held_out: ImageSet | FileSet | None = None
    notes: tuple[str, ...] = ()
    sizes: Sizes | None = None

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def channels(self) -> int:
        return self.train.channels

    @property
    def image_size(self) -> int:
        """Side of the square images in pixels; ValueError when they are not square."""
        height, width = self.train.height_width
        if height != width:
            raise ValueError(
                f"{self.name}: the images are {height} high and {width} wide, but the networks need squares; "
                f"data.image_size={min(height, width)} resizes and centre-crops every image"
            )
        return height


def validate(data: Data) -> Data:
    """Return ``data`` unchanged, or raise a one-line ValueError that says what is wrong with it.

    Checked: at least two classes, at least one image in each split, the same image shape in both, and
    every label in range.
    """
    if data.num_classes < 2:
        raise ValueError(f"{data.name}: at least 2 classes are needed, found {list(data.classes)}")
    for split, part in (("train", data.train), ("test", data.test)):
        if len(part) == 0:
            raise ValueError(f"{data.name}: the {split} split has no images")
        check_labels(part.labels, data.num_classes, f"{data.name}: the {split} split")
    shapes = [(part.channels, *part.height_width) for part in (data.train, data.test)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"{data.name}: training images are {shape_text(shapes[0])}, test images {shape_text(shapes[1])}"
        )
    return data


def check_labels(labels: Tensor, num_classes: int, where: str) -> None:
    """Raise a ValueError naming the first label outside 0..num_classes-1."""
    wrong = ((labels < 0) | (labels >= num_classes)).nonzero()
    if len(wrong):
        row = int(wrong[0])
        unlabelled = ", and -1 mostly stands for an image without a label" if labels[row] == -1 else ""
        raise ValueError(
            f"{where} has label {int(labels[row])} (image {row}), but the {num_classes} classes are labelled "
            f"0 to {num_classes - 1}{unlabelled}"
        )


def shape_text(shape: tuple[int, int, int]) -> str:
    channels, height, width = shape
    return f"{height}x{width} pixels with {plural(channels, 'channel')}"
