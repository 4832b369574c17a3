"""The images of a user's batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from filtersmith.common.options import bad_option
from filtersmith.measure.evaluation import device_of

COMPUTED = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Types in which networks compute; others only hold parameters."""


def images_of(batches: Iterable[Any], device: torch.device) -> Iterator[Tensor]:
    """The images of every batch, on a device.

    Args:
        batches: tensors of images, or tuples that begin with one, such as ``(images, labels)``; or one such tensor.
        device: where they have to be.

    Raises:
        ValueError: no batches, or none with an image.
    """
    if isinstance(batches, Tensor):
        batches = [batches]
    if not isinstance(batches, Iterable):
        raise bad_option("batches", type(batches).__name__, "an iterable of images, or of (images, labels)")
    empty = True
    for batch in batches:
        images = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
        if not isinstance(images, Tensor) or not images.ndim:
            raise bad_option("a batch", type(batch).__name__, "images, or a tuple (images, labels)")
        if len(images):
            empty = False
            yield images.to(device)
    if empty:
        raise ValueError("batches are empty: there is no image to measure on")


def as_taken(network: nn.Module, images: Tensor) -> Tensor:
    """Images on the network's device; floating ones in the type of its parameters. A gradient goes through."""
    kind = next((p.dtype for p in network.parameters() if p.dtype in COMPUTED), images.dtype)
    return images.to(device_of(network), kind if images.is_floating_point() else images.dtype)
