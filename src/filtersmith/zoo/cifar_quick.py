"""Cifar-quick with batch norm, the small network of KFLO (Henig and Giryes, arXiv 2207.05532), from ACNet.

Three times [5x5 convolution with padding 2, batch norm, ReLU, 3x3 pooling with stride 2] of 32, 32 and 64
filters, then linear layers of 64 and num_classes outputs with a ReLU between. The first pooling takes the
maximum, the others the average. Convolutions have no bias, linear layers have one; torch's own
initialisation, as in the authors' code. Caffe's original, which pools before the first ReLU and ends without
one between its linear layers, is another network.
"""

from __future__ import annotations

import re
from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn

from filtersmith.common.options import bad_option
from filtersmith.zoo.info import Task

SMALLEST = 15  # pixels: 15 -> 7 -> 3 -> 1


def feature_side(image_size: int) -> int:
    """Height = width of what three 3x3 poolings with stride 2, unpadded, leave of a square image."""
    side = image_size
    for _ in range(3):
        side = (side - 3) // 2 + 1
    return side


class CifarQuick(nn.Module):
    """Cifar-quick with batch norm for square images of ``image_size`` pixels.

    Takes (batch, in_channels, image_size, image_size), gives (batch, num_classes). An image of less than 15
    pixels, which the poolings reduce to nothing, raises ValueError.
    """

    def __init__(self, *, num_classes: int = 10, in_channels: int = 3, image_size: int = 32) -> None:
        super().__init__()
        if image_size < SMALLEST:
            raise bad_option("image_size", image_size, f"at least {SMALLEST} for cifar-quick")
        self.stage1: nn.Sequential = _stage(in_channels, 32, nn.MaxPool2d(3, stride=2))
        self.stage2: nn.Sequential = _stage(32, 32, nn.AvgPool2d(3, stride=2))
        self.stage3: nn.Sequential = _stage(32, 64, nn.AvgPool2d(3, stride=2))
        self.fc1: nn.Linear = nn.Linear(64 * feature_side(image_size) ** 2, 64)
        self.fc2: nn.Linear = nn.Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out = self.stage3(self.stage2(self.stage1(x)))
        return self.fc2(F.relu(self.fc1(out.flatten(1)), inplace=True))  # type: ignore[no-any-return]


def _stage(in_channels: int, channels: int, pool: nn.Module) -> nn.Sequential:
    """Convolution, batch norm, ReLU, pooling."""
    conv = nn.Conv2d(in_channels, channels, 5, padding=2, bias=False)
    parts = {"conv": conv, "bn": nn.BatchNorm2d(channels), "relu": nn.ReLU(inplace=True), "pool": pool}
    return nn.Sequential(OrderedDict(parts))


def build(match: re.Match[str], task: Task) -> CifarQuick:
    """``cifar-quick``."""
    return CifarQuick(num_classes=task.num_classes, in_channels=task.in_channels, image_size=task.image_size)
