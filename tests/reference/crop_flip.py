"""Crop and flip one image after the other, pixel by pixel rows, as one writes it first."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def crop_flip_one_by_one(
    images: Tensor, pad: int, top: Tensor, left: Tensor, flip: Tensor, *, reflect: bool = False
) -> Tensor:
    """uint8 (b, C, H, W): each image is laid on black, cut at its own (top, left), and mirrored if ``flip``.

    With ``reflect`` what lies around it is the image itself, mirrored at its edge.
    """
    count, channels, height, width = images.shape
    result = torch.empty_like(images)
    for i in range(count):
        canvas = torch.zeros(channels, height + 2 * pad, width + 2 * pad, dtype=torch.uint8)
        canvas[:, pad : pad + height, pad : pad + width] = images[i]
        if reflect:
            canvas = F.pad(images[i].float(), (pad, pad, pad, pad), mode="reflect").to(torch.uint8)
        y, x = int(top[i]), int(left[i])
        crop = canvas[:, y : y + height, x : x + width]
        result[i] = torch.flip(crop, [2]) if flip[i] else crop
    return result


def normalise_one_by_one(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """float64 (b, C, H, W): the textbook formula on values of 0..1."""
    result = torch.empty(images.shape, dtype=torch.float64)
    for i in range(len(images)):
        for c in range(images.shape[1]):
            result[i, c] = (images[i, c].double() / 255 - mean[c].double()) / std[c].double()
    return result
