"""What is done to one image that was read from disk: at random for training, always the same for testing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor

from filtersmith.lab.data.decode import fit, need
from filtersmith.lab.data.records import Augment

Transform = Callable[[Tensor], Tensor]
"""uint8 (3, height, width) of any size to uint8 (3, size, size)."""

CENTRE = 0.875
"""Share of the short side that an image is tested on, as in the evaluation of ImageNet: 224 pixels of 256."""

JITTER = 0.4
"""Brightness, contrast and saturation are multiplied by 0.6 to 1.4, in any order (fb.resnet.torch, and so RePr)."""

LIGHTING = 0.1
"""Standard deviation of `lighting`'s draws (AlexNet, fb.resnet.torch, and so RePr)."""

_VALUES = (0.2175, 0.0188, 0.0045)
_VECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))
"""Principal components of ImageNet's colours from 0 to 1: a column of `_VECTORS` for each of the `_VALUES`. Source:
datasets/imagenet.lua of https://github.com/facebookarchive/fb.resnet.torch"""


def transform_for(augment: Augment | None, size: int) -> Transform:
    """What is done to each image.

    Args:
        augment: With ``pad`` above 0 torchvision's RandomResizedCrop, else the centre; a mirror image with ``flip``;
            with ``color`` ColorJitter and `lighting`. None: the centre alone, for testing.
        size: Side in pixels.

    Returns:
        A function of the image that draws from torch's global generator, and can be sent to another process.
    """
    centre = partial(fit, size=size, share=CENTRE)
    if augment is None:
        return centre
    v2 = need("torchvision.transforms.v2")
    steps = [v2.RandomResizedCrop(size, antialias=True) if augment.pad else centre]
    if augment.flip:
        steps.append(v2.RandomHorizontalFlip())
    if augment.color:
        steps += [torch.Tensor.contiguous, v2.ColorJitter(JITTER, JITTER, JITTER), lighting]
    transform: Transform = v2.Compose(steps)
    return transform


@contextmanager
def choices_of(seed: int, epoch: int, index: int) -> Iterator[None]:
    """What is drawn within is a function of these three numbers alone, whoever draws it and when.

    torchvision draws from the global CPU generator only: it is lent this image's, and put back.
    """
    mixed = np.random.SeedSequence((seed, epoch, index)).generate_state(1, np.uint64)[0]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(mixed))
        yield


def lighting(image: Tensor) -> Tensor:
    """AlexNet's change of colour: each principal component is added, times its value and a draw of a normal."""
    draws = torch.randn(3) * LIGHTING
    shift = torch.tensor(_VECTORS) @ (torch.tensor(_VALUES) * draws) * 255
    return (image + shift[:, None, None]).round_().clamp_(0, 255).to(torch.uint8)
