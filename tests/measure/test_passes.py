"""The images of a user's batches."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from filtersmith.measure.passes import images_of


def test_images_alone_with_labels_and_all_at_once() -> None:
    images, labels = torch.randn(4, 3, 2, 2), torch.arange(4)
    for batches in ([images], images, [(images, labels)], [[images, labels, "name"]], iter([images[:0], images])):
        (found,) = images_of(batches, torch.device("cpu"))
        assert torch.equal(found, images)


@pytest.mark.parametrize(
    ("batches", "said"),
    [
        (3, "batches must be an iterable of images, or of .images, labels., got 'int'"),
        ([{"image": 1}], "a batch must be images, or a tuple .images, labels., got 'dict'"),
        ([()], "a batch must be images"),
        ([], "batches are empty"),
        ([torch.empty(0, 3, 2, 2)], "batches are empty"),
    ],
)
def test_what_is_no_batch_is_refused_in_one_line(batches: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        list(images_of(batches, torch.device("cpu")))
