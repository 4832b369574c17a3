"""What a data set is: checked when it is made, and as a whole by `validate`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from filtersmith.lab.data import Augment, Data, FileSet, ImageSet
from filtersmith.lab.data.records import validate


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


def test_both_kinds_of_splits_tell_their_size_and_channels() -> None:
    images = small(3, channels=1, side=5)
    files = FileSet((Path("a.png"), Path("b.png")), torch.tensor([0, 1]), 7)
    assert (len(images), images.channels, images.height_width) == (3, 1, (5, 5))
    assert (len(files), files.channels, files.height_width) == (2, 3, (7, 7))
    data = Data("set", "set", files, files, ("a", "b"), None)
    assert (data.num_classes, data.channels, data.image_size) == (2, 3, 7)
    assert validate(data) is data


def test_images_that_are_not_square_have_no_size() -> None:
    oblong = ImageSet(torch.zeros(2, 1, 4, 6, dtype=torch.uint8), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"^set: the images are 4 high and 6 wide, .*; data\.image_size=4 resizes"):
        _ = Data("set", "set", oblong, oblong, ("a", "b"), None).image_size


def test_padding_is_not_negative() -> None:
    assert Augment(0, True).pad == 0
    with pytest.raises(ValueError, match=r"^augment\.pad must be a whole number of pixels >= 0, got -1$"):
        Augment(-1, True)
