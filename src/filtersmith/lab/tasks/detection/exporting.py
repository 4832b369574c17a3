"""A detector in a file for elsewhere: an image in, boxes, labels and scores out.

torchvision's detectors branch on how many boxes there are, which ``torch.export`` refuses. While a program is
exported, three functions of torchvision have replacements that compute the same without a branch. Image sizes have to
be known then: a ``pt2`` file takes images of one size, that of most training images. ONNX is written by TorchScript's
tracer, for which torchvision has its own ways: images of any size.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from filtersmith.lab.tasks.detection.detections import FOUND
from filtersmith.lab.tasks.detection.network import FULL_SIZE
from filtersmith.lab.tasks.detection.records import DetectionSet, scaled_size
from filtersmith.lab.tasks.exporting import Check
from filtersmith.lab.training.errors import RunFailed

_BACKGROUND = "network.roi_heads.box_predictor.cls_score.bias"
_SURE = 20.0
"""Added to a logit: far more than classes differ by."""
_UNLIKE = 0.05
"""Detections that may be others: a box less, and those behind it move up, where two overlaps are nearly the same."""


def commonest_shape(images: DetectionSet) -> list[int]:
    """Height and width that most images of a split have when they are scaled."""
    scaled = (scaled_size(*size, images.size) for size in images.sizes)
    return list(Counter(scaled).most_common(1)[0][0])


class AsTensors(nn.Module):
    """A detector that takes one image (3, height, width) and gives boxes (n, 4), labels (n,) and scores (n,)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See the class."""
        (found,) = self.network([image])
        boxes, labels, scores = (found[name] for name in FOUND)
        return boxes, labels, scores


class DetectorExporting:
    """See `filtersmith.lab.tasks.exporting.Exporting`.

    Images of noise may hold nothing that a detector finds, and nothing would be compared. They are compared also with
    the background made unlikely (many boxes are found) and sure (none is), in the network and in the file.

    Args:
        facts: of `Detection.facts`.
    """

    inputs: tuple[str, ...] = ("image",)
    outputs: tuple[str, ...] = FOUND
    exportable: bool = False

    def __init__(self, facts: Mapping[str, Any]) -> None:
        size = facts["image_size"] or FULL_SIZE
        self.shape: tuple[int, int] = tuple(facts.get("shape") or (size, size))
        self._classes = facts["num_classes"]

    def described(self, format: str) -> dict[str, Any]:
        """``batch``: images of a call; ``image_shape``: what a program takes; ``normalised``: by whom."""
        size: Sequence[Any] = self.shape if format == "pt2" else ("height", "width")
        return {"batch": 1, "image_shape": [3, *size], "normalised": "by the network, from RGB of 0..1"}

    def program(self, network: nn.Module) -> nn.Module:
        return AsTensors(network).eval()

    def example(self, format: str) -> tuple[Tensor, ...]:
        return (_image(*self.shape, seed=0),)

    def dynamic(self, format: str) -> tuple[dict[int, str], ...]:
        return ({},) if format == "pt2" else ({1: "height", 2: "width"},)

    def checks(self, format: str) -> list[Check]:
        height, width = self.shape
        upright, larger = ((width, height), (height * 5 // 4, width)) if format != "pt2" else (self.shape,) * 2
        plain = _image(*self.shape, seed=1)
        return [
            Check((plain,)),
            Check((plain,), self._background(-_SURE)),
            Check((_image(*upright, seed=2),), self._background(-_SURE)),
            Check((_image(*larger, seed=3),), self._background(_SURE)),
        ]

    def _background(self, value: float) -> dict[str, Tensor]:
        return {_BACKGROUND: F.pad(torch.tensor([value]), (0, self._classes))}

    def tracing(self, format: str) -> AbstractContextManager[None]:
        return _without_branches() if format == "pt2" else nullcontext()

    def compare(self, expected: Sequence[Tensor], found: Sequence[Tensor], tolerance: float) -> float:
        return compare(expected, found, tolerance)


def _image(height: int, width: int, *, seed: int) -> Tensor:
    """Noise of all sizes, from 0 to 1."""
    generator = torch.Generator().manual_seed(seed)
    coarse = [
        torch.rand(1, 3, max(1, height // cell), max(1, width // cell), generator=generator) for cell in (1, 8, 32)
    ]
    return torch.stack([F.interpolate(one, (height, width)) for one in coarse]).mean(0)[0]


def compare(expected: Sequence[Tensor], found: Sequence[Tensor], tolerance: float) -> float:
    """The largest difference of boxes, as a fraction of the farthest corner, and of scores; each detection is looked
    for among those of the same label.

    Raises:
        RunFailed: more detections than one in twenty have no counterpart within ``tolerance``. Two boxes that overlap
            as much as is allowed, up to rounding, are one or two detections. With a tolerance of 0 all have one.
    """
    count, back = len(expected[0]), len(found[0])
    allowed = _UNLIKE * max(count, back) if tolerance else 0
    if abs(count - back) > allowed:
        raise RunFailed(f"{back} detections are read back, not {count}")
    if not count:
        return 0.0
    largest = expected[0].abs().max().clamp(min=1)
    boxes = (expected[0][:, None] - found[0]).abs().amax(2) / largest
    apart = torch.maximum(boxes, (expected[2][:, None] - found[2]).abs())
    nearest = apart.masked_fill(expected[1][:, None] != found[1], torch.inf).amin(1)
    same = nearest <= tolerance  # NaN is not
    unlike = int((~same).sum())
    if unlike > allowed:
        raise RunFailed(f"{unlike} of {count} detections differ from those read back by more than {tolerance:g}")
    return float(nearest[same].max())


# --- torchvision without branches on numbers of boxes ----------------------------------------------------


@contextmanager
def _without_branches() -> Iterator[None]:
    boxes, poolers, coder = (
        importlib.import_module(f"torchvision.{name}")
        for name in ("ops.boxes", "ops.poolers", "models.detection._utils")
    )
    changes: list[tuple[Any, str, Any]] = [
        (boxes, "batched_nms", _batched_nms),
        (poolers, "_multiscale_roi_align", _multiscale_roi_align),
        (coder.BoxCoder, "decode", _decode),
    ]
    before = [getattr(owner, name) for owner, name, _ in changes]
    try:
        for owner, name, new in changes:
            setattr(owner, name, new)
        yield
    finally:
        for (owner, name, _), old in zip(changes, before, strict=True):
            setattr(owner, name, old)


def _batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """torchvision's coordinate trick, also of no boxes: those of each class are moved to a place of their own.

    An exported program stops where fewer than two boxes are kept, as torchvision says that two are (its
    ``meta_nms``). So two more are there, off the image and with scores below all others, which are kept as the last.
    """
    largest = torch.cat([boxes.flatten(), boxes.new_zeros(1)]).max()
    moved = boxes + (idxs.to(boxes) * (largest + 1))[:, None]
    two = boxes.new_tensor([[-4.0, -4.0, -3.0, -3.0], [-2.0, -2.0, -1.0, -1.0]])
    kept: Tensor = torch.ops.torchvision.nms(
        torch.cat([moved, two]), torch.cat([scores, scores.new_full((2,), -1.0)]), iou_threshold
    )
    return kept[:-2]


def _multiscale_roi_align(
    x_filtered: Sequence[Tensor],
    boxes: Sequence[Tensor],
    output_size: Sequence[int],
    sampling_ratio: int,
    scales: Sequence[float],
    mapper: Any,
) -> Tensor:
    """Every region is cut out of every level, and the level that is its own is chosen."""
    poolers = importlib.import_module("torchvision.ops.poolers")
    rois = poolers._convert_to_roi_format(boxes)
    cut: list[Tensor] = [
        poolers.roi_align(level, rois, output_size, spatial_scale=scale, sampling_ratio=sampling_ratio)
        for level, scale in zip(x_filtered, scales, strict=True)
    ]
    chosen = cut[0]
    if len(cut) > 1:
        levels = mapper(boxes)[:, None, None, None]
        for number, one in enumerate(cut):
            chosen = torch.where(levels == number, one, chosen)
    return chosen


def _decode(self: Any, rel_codes: Tensor, boxes: Sequence[Tensor]) -> Tensor:
    """Codes (n, 4 * classes), or those of anchors, with boxes that are n in all."""
    every = torch.cat(list(boxes))
    count = every.shape[0]
    decoded: Tensor = self.decode_single(rel_codes.reshape(count, rel_codes.shape[-1]), every)
    return decoded.reshape(count, -1, 4)
