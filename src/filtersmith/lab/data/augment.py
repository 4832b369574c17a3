"""Random crop, mirror image and normalisation of a whole batch at once, on any device.

Images are (b, H, W, C) here, rows of pixels contiguous: a crop then copies whole rows, and the result read as
(b, C, H, W) is in channels-last memory, the layout that convolutions are fastest in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from filtersmith.common.options import bad_option
from filtersmith.lab.data.records import Augment


@dataclass(frozen=True)
class Draws:
    """The random choices for N images.

    Args:
        top: int64 (N,), first row of the crop in the padded image, 0 to 2*pad.
        left: int64 (N,), first column of the crop, 0 to 2*pad.
        flip: bool (N,), whether the crop is mirrored left to right.
    """

    top: Tensor
    left: Tensor
    flip: Tensor

    def to(self, device: torch.device) -> Draws:
        return Draws(self.top.to(device), self.left.to(device), self.flip.to(device))

    def at(self, places: Tensor) -> Draws:
        return Draws(self.top[places], self.left[places], self.flip[places])

    def part(self, first: int, last: int) -> Draws:
        return Draws(self.top[first:last], self.left[first:last], self.flip[first:last])


def draw(count: int, augment: Augment, generator: torch.Generator) -> Draws:
    """Crop offsets, uniform over all (2*pad+1)^2 places, and fair flips for ``count`` images."""
    top, left = torch.randint(2 * augment.pad + 1, (2, count), generator=generator)
    flip = torch.rand(count, generator=generator) < 0.5 if augment.flip else torch.zeros(count, dtype=torch.bool)
    return Draws(top, left, flip)


def crop_flip(images: Tensor, augment: Augment, draws: Draws) -> Tensor:
    """Pad with black or what is at the edge, cut out each image's crop, mirror the chosen ones.

    Args:
        images: uint8 (b, H, W, C), contiguous.
        augment: Padding, and whether any image is mirrored.
        draws: The choices for these b images, on the same device.

    Returns:
        uint8 (b, H, W, C), contiguous; nothing here waits for the device.
    """
    if augment.pad:
        images = _crop(images, augment, draws.top, draws.left)
    if augment.flip:
        images = torch.where(draws.flip[:, None, None, None], images.flip(2), images)
    return images


def _crop(images: Tensor, augment: Augment, top: Tensor, left: Tensor) -> Tensor:
    count, height, width, channels = images.shape
    pad = augment.pad
    padded = _reflected(images, pad) if augment.reflect else F.pad(images, (0, 0, pad, pad, pad, pad))
    # A row of a crop is width*channels neighbouring bytes that may begin at any pixel. Seen through a view
    # in which every byte begins a row, all the crops are one gather of count*height rows.
    row = (width + 2 * pad) * channels
    every_row = padded.as_strided((max(padded.numel() - width * channels + 1, 0), width * channels), (1, 1))
    image_start = torch.arange(count, device=images.device) * ((height + 2 * pad) * row)
    first = image_start + top * row + left * channels
    rows = first[:, None] + torch.arange(height, device=images.device) * row
    return every_row.index_select(0, rows.flatten()).view(count, height, width, channels)


def _reflected(images: Tensor, pad: int) -> Tensor:
    """Padded with what is at the edge, mirrored without the edge itself."""
    height, width = images.shape[1:3]
    if pad >= min(height, width):
        raise ValueError(f"augment.pad must be below height and width to reflect, got {pad} for {height}x{width}")
    rows, columns = (_mirrored(size, pad).to(images.device) for size in (height, width))
    return images.index_select(1, rows).index_select(2, columns).contiguous()


def _mirrored(size: int, pad: int) -> Tensor:
    """Places in a row of ``size`` pixels that is padded by ``pad``: 2 1 0 1 2 3 2 1 for 4 and 2."""
    places = torch.arange(-pad, size + pad).abs()
    return torch.where(places >= size, 2 * (size - 1) - places, places)


def normalise(images: Tensor, mean: Tensor, scale: Tensor, *, channels_last: bool = True) -> Tensor:
    """(x - mean) * scale, from uint8 to float32.

    Args:
        images: uint8 (b, H, W, C), contiguous.
        mean: float32 (H*W*C,), in units of 0..255, one entry per pixel and channel (flat, the loop over a
            whole image vectorises; over 3 channels it does not).
        scale: float32 (H*W*C,).
        channels_last: Memory format of the result.

    Returns:
        float32 (b, C, H, W), the same values in either format. Subtraction and product are separate on purpose:
        fused, the last bit would depend on where in the batch an image stands.
    """
    flat = images.flatten(1).to(torch.float32).sub_(mean).mul_(scale)
    made = flat.view(images.shape).permute(0, 3, 1, 2)
    # A copy, as the strides of one channel are those of either format, and torch would take them for channels-last.
    return made if channels_last else made.clone(memory_format=torch.contiguous_format)


def per_channel(option: str, value: Sequence[float] | Tensor, channels: int) -> Tensor:
    """``value`` as float32 (channels,) on the CPU, or a ValueError naming the option."""
    values = torch.as_tensor(value, dtype=torch.float32, device="cpu")
    if values.shape != (channels,):
        raise bad_option(option, value, f"one number per channel, {channels} in all")
    return values
