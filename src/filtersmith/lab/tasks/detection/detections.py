"""What a detector is trained on, and what it finds: torchvision's four losses, and boxes with labels and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

LOSSES = {
    "loss_classifier": "the classes of the regions",
    "loss_box_reg": "the boxes of the regions",
    "loss_objectness": "whether anchors hold a thing",
    "loss_rpn_box_reg": "the boxes of the anchors",
}
"""The parts of Faster R-CNN's loss, and what each one judges. All count the same."""
FOUND = ("boxes", "labels", "scores")


def losses(
    network: nn.Module, images: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """The parts of the loss of a batch, scalars with a gradient, by the names of `LOSSES`; their `total` is trained.

    Args:
        network: the detector, in training mode; wrapped in DDP or compiled as well.
        images: (3, height, width) each, in [0, 1].
        targets: ``boxes`` float32 (n, 4), x1 y1 x2 y2 in pixels, and ``labels`` int64 (n,) from 1; n may be 0.

    Raises:
        ValueError: in evaluation mode, for there a detector gives boxes and no losses; a box without area.
    """
    if not network.training:
        raise ValueError("a detector has losses in training mode alone: call train() first")
    try:
        found = network(list(images), [{name: one[name] for name in FOUND[:2]} for one in targets])
    except AssertionError as error:  # of torchvision, on boxes without area
        raise ValueError(" ".join(str(error).split())) from error
    return dict(found)


def total(parts: Mapping[str, Tensor]) -> Tensor:
    """The loss of a batch: the sum of its parts."""
    return torch.stack([*parts.values()]).sum()


def not_finite(parts: Mapping[str, Tensor]) -> str:
    """Which parts of a loss are not finite, in words; empty where all are.

    Asked where the total is not finite, so that a step waits for the GPU no more often than it has to.

    >>> not_finite({"loss_classifier": torch.tensor(1.0), "loss_box_reg": torch.tensor(float("nan"))})
    'loss_box_reg (the boxes of the regions) is nan'
    """
    values = {name: part.item() for name, part in parts.items() if not torch.isfinite(part)}
    said = (f"{name} ({LOSSES[name]})" if name in LOSSES else name for name in values)
    return ", ".join(f"{name} is {value}" for name, value in zip(said, values.values(), strict=True))


@torch.no_grad()
def detect(network: nn.Module, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
    """What a detector finds in images, the surest first: it runs in evaluation mode, and is left in its own.

    Args:
        network: the detector; of one that is at work in a training, hand in the copy to test.
        images: (3, height, width) each, in [0, 1]; none give nothing.

    Returns:
        Of each image ``boxes`` (n, 4), x1 y1 x2 y2 in its own pixels, ``labels`` from 1, and ``scores`` in [0, 1].
    """
    if not images:
        return []
    modes = {module: module.training for module in network.modules()}
    try:
        network.eval()
        found: Any = network(list(images))
    finally:
        for module, training in modes.items():
            module.training = training
    return [{name: one[name] for name in FOUND} for one in found]
