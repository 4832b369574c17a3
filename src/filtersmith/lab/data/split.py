"""Parts of a set: images held out for testing or for choosing, and fewer images to train on."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from filtersmith.common.options import bad_option
from filtersmith.lab.data.names import Names
from filtersmith.lab.data.records import Data, FileSet, ImageSet

TEST_FRACTION = 0.2
"""Of the images of a set without test images, of each class alike."""


def stratified_split(labels: Tensor, what: str) -> tuple[Tensor, Tensor]:
    """A fixed stratified 80/20 split: the numbers of the training and of the test images, in order.

    Raises:
        ValueError: A class has too few images to be split; ``what`` names the set.
    """
    from sklearn.model_selection import train_test_split

    try:
        train, test = train_test_split(
            range(len(labels)), test_size=TEST_FRACTION, random_state=0, stratify=labels.tolist()
        )
    except ValueError as error:
        raise ValueError(f"{what} has no test split, and none can be held out: {error}") from error
    return torch.tensor(sorted(train)), torch.tensor(sorted(test))


def with_held_out(data: Data, count: int) -> Data:
    """The data with ``count`` images held out of the training split, the same ones each time.

    Raises:
        ValueError: Fewer images than that, or none would be left for training.
    """
    if not count:
        return data
    if count >= len(data.train):
        raise bad_option("data.holdout", count, f"below the {len(data.train):,} training images")
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    kept, held = order[count:].sort().values, order[:count].sort().values
    return replace(data, train=part(data.train, kept), held_out=part(data.train, held))


def with_limit(data: Data, count: int | None) -> Data:
    """The data with ``count`` training images, of each class alike, the same ones each time; ``None``: all of them.

    A smaller number takes a part of what a larger one takes, and every class keeps an image.

    Raises:
        ValueError: Fewer images than classes, or more than there are.
    """
    if count is None:
        return data
    classes = len(data.train.labels.unique())
    if not classes <= count <= len(data.train):
        allowed = f"from {classes} (one of each class) to the {len(data.train):,} training images"
        raise bad_option("data.limit", count, allowed)
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    labels = data.train.labels[order]
    places = torch.empty(len(order), dtype=torch.float64)  # of an image in its class: 0 the first, near 1 the last
    for label in labels.unique():
        of_class = (labels == label).nonzero().flatten()
        places[of_class] = torch.arange(len(of_class), dtype=torch.float64) / len(of_class)
    chosen = order[places.argsort(stable=True)[:count]].sort().values
    return replace(data, train=part(data.train, chosen))


def part(images: ImageSet | FileSet, numbers: Tensor) -> ImageSet | FileSet:
    """Some images of a split, by number."""
    labels = images.labels[numbers]
    if isinstance(images, FileSet):
        return FileSet(Names(images.files[number] for number in numbers.tolist()), labels, images.size)
    return ImageSet(images.images[numbers], labels)
