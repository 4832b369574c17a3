"""The images of a user's batches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from filtersmith.measure.passes import as_taken, images_of


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


def test_images_as_a_network_takes_them() -> None:
    images = torch.randn(2, 3, 4, 4, requires_grad=True)
    for dtype in (torch.float16, torch.float64):
        found = as_taken(nn.Conv2d(3, 2, 1).to(dtype), images)
        assert found.dtype == dtype
        assert found.requires_grad
        assert as_taken(nn.Conv2d(3, 2, 1).to(dtype), images.int()).dtype == torch.int32
    assert as_taken(nn.ReLU(), images) is images
    packed = nn.Module()
    packed.weight = nn.Parameter(torch.zeros(2).to(torch.float8_e4m3fn), requires_grad=False)
    assert as_taken(packed, images) is images, "it only holds numbers of that type"
