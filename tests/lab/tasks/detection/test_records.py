"""What a set of images with boxes is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from filtersmith.lab.tasks.detection.records import (
    DetectionData,
    DetectionSet,
    Sample,
    Target,
    longest_side,
    scaled_size,
)


def target(*labels: int, ignored: tuple[int, ...] = ()) -> Target:
    count = len(labels)
    marks = torch.tensor([number in ignored for number in range(count)], dtype=torch.bool)
    return Target(torch.rand(count, 4), torch.tensor(labels, dtype=torch.int64), marks)


def split(*targets: Target, size: int | None = 32) -> DetectionSet:
    return DetectionSet.of((Sample(Path(f"{n}.jpg"), one, (n + 1, 9)) for n, one in enumerate(targets)), size)


@pytest.mark.parametrize(
    ("boxes", "labels", "ignored", "text"),
    [
        (torch.zeros(2, 4).double(), torch.ones(2).long(), torch.zeros(2).bool(), "boxes must be torch.float32"),
        (torch.zeros(2, 5), torch.ones(2).long(), torch.zeros(2).bool(), r"boxes .*\(2, 4\), got .*\(2, 5\)"),
        (torch.zeros(2, 4), torch.ones(2), torch.zeros(2).bool(), "labels must be torch.int64"),
        (torch.zeros(2, 4), torch.ones(3).long(), torch.zeros(2).bool(), r"labels .*\(2,\), got .*\(3,\)"),
        (torch.zeros(2, 4), torch.ones(2).long(), torch.zeros(2), "ignored must be torch.bool"),
    ],
)
def test_a_target_has_tensors_of_one_kind(boxes: Tensor, labels: Tensor, ignored: Tensor, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Target(boxes, labels, ignored)


def test_ignored_boxes_are_in_a_target_but_not_counted() -> None:
    one = target(2, 1, 2, ignored=(0,))
    assert len(one) == 3
    assert one.counted.tolist() == [1, 2]
    whole = split(one, target(), target(3, 3, ignored=(1,)))
    assert (len(whole), whole.boxes_by_class(4)) == (3, [1, 1, 1, 0])
    assert split(target()).boxes_by_class(2) == [0, 0]
    assert split().boxes_by_class(2) == [0, 0]


def test_a_part_keeps_what_belongs_together() -> None:
    whole = split(target(1), target(), target(2, 2))
    some = whole.part([2, 0])
    assert [file.name for file in some.files] == ["2.jpg", "0.jpg"]
    assert some.targets == (whole.targets[2], whole.targets[0])
    assert (some.sizes, some.size) == (((3, 9), (1, 9)), 32)
    assert len(whole.part([])) == 0


def test_what_makes_no_split_is_refused() -> None:
    with pytest.raises(ValueError, match="got 1 files, 0 targets and 0 sizes"):
        DetectionSet((Path("a"),), (), (), None)
    for size in (0, 1.5):
        with pytest.raises(ValueError, match=r"data\.image_size must be a whole number of pixels >= 1, got"):
            split(target(), size=size)  # type: ignore[arg-type]


def test_data_counts_classes_without_the_background() -> None:
    data = DetectionData("voc:x", "x", split(target(1)), split(target(2)), ("cat", "dog"), ())
    assert (data.num_classes, data.channels, data.image_size, data.held_out) == (2, 3, 32, None)


@pytest.mark.parametrize(
    ("size", "scaled"),
    [
        ((480, 640), (128, 171)),
        ((640, 480), (171, 128)),
        ((20, 20), (128, 128)),  # made larger
        ((100, 1000), (21, 213)),  # the long side counts
        ((1, 5000), (1, 213)),
    ],
)
def test_the_short_side_is_scaled_unless_the_long_one_gets_too_long(
    size: tuple[int, int], scaled: tuple[int, int]
) -> None:
    assert longest_side(128) == 213
    assert scaled_size(*size, 128) == scaled
    assert scaled_size(*size, None) == size


@pytest.mark.parametrize("size", [1, 2, 64, 128, 600, 800])
@pytest.mark.parametrize("shape", [(480, 640), (333, 500), (375, 1242), (97, 31), (1200, 100)])
def test_torchvision_does_not_scale_again(size: int, shape: tuple[int, int]) -> None:
    """Its detectors scale as they are told, by the same rule: once here is enough."""
    transform = pytest.importorskip("torchvision.models.detection.transform")
    height, width = scaled_size(*shape, size)
    images, _ = transform.GeneralizedRCNNTransform(size, longest_side(size), [0.0] * 3, [1.0] * 3)(
        [torch.zeros(3, height, width)]
    )
    assert images.image_sizes == [(height, width)]
