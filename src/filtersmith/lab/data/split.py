"""Holding images out: for testing, of a set that comes without test images; of the training images, for choosing."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from filtersmith.common.options import bad_option
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
        raise bad_option("data.holdout", count, f"below the {len(data.train)} training images")
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    kept, held = order[count:].sort().values, order[:count].sort().values
    return replace(data, train=_part(data.train, kept), held_out=_part(data.train, held))


def _part(images: ImageSet | FileSet, numbers: Tensor) -> ImageSet | FileSet:
    labels = images.labels[numbers]
    if isinstance(images, FileSet):
        return FileSet(tuple(images.files[number] for number in numbers.tolist()), labels, images.size)
    return ImageSet(images.images[numbers], labels)
