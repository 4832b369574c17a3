"""The CIFAR AlexNet that WAU trains: Krizhevsky et al. (NeurIPS 2012) cut down for 32x32 images.

11x11 convolution of 64 filters with stride 4 and padding 5, pooling, 5x5 of 192, pooling, 3x3 of 384, 256
and 256, pooling, one linear layer. Biases, no batch norm, no dropout; torch's own initialisation. Without
batch norm a learning rate of 0.01 is the usual start.
"""

from __future__ import annotations

import itertools
import re

from torch import Tensor, nn

from filtersmith.common.options import bad_option
from filtersmith.zoo.info import Task


def feature_side(image_size: int) -> int:
    """Height = width of what the last pooling leaves of a square image; 0 where it leaves nothing."""
    side = (image_size + 2 * 5 - 11) // 4 + 1
    return side // 2 // 2 // 2


WIDTHS = (64, 192, 384, 256, 256)
"""Filters of each convolution."""


class CifarAlexNet(nn.Module):
    """AlexNet for square images of ``image_size`` pixels.

    Takes (batch, in_channels, image_size, image_size), gives (batch, num_classes). An image that the three
    poolings reduce to nothing raises ValueError.
    """

    def __init__(self, *, num_classes: int = 10, in_channels: int = 3, image_size: int = 32) -> None:
        super().__init__()
        side = feature_side(image_size)
        if side < 1:
            smallest = next(size for size in itertools.count(1) if feature_side(size))
            raise bad_option("image_size", image_size, f"at least {smallest} for alexnet")
        one, two, three, four, five = WIDTHS
        self.features: nn.Sequential = nn.Sequential(
            nn.Conv2d(in_channels, one, 11, stride=4, padding=5),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(one, two, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(two, three, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(three, four, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(four, five, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )
        self.fc: nn.Linear = nn.Linear(five * side**2, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).flatten(1))  # type: ignore[no-any-return]


def build(match: re.Match[str], task: Task) -> CifarAlexNet:
    """``alexnet``."""
    return CifarAlexNet(num_classes=task.num_classes, in_channels=task.in_channels, image_size=task.image_size)
