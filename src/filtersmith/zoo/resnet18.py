"""ResNet-18 and ResNet-34 for small images, DACNN's baselines (Huang et al., CVPR 2019 workshops, section 4).

The ImageNet networks of He et al. (CVPR 2016) with another stem: 3x3 convolution of 64 filters with stride 1, no
max pooling. Four stages of 64, 128, 256 and 512 filters with strides 1, 2, 2, 2, of [2, 2, 2, 2] or [3, 4, 6, 3]
basic blocks; where a block changes the shape, its shortcut is a 1x1 convolution with batch norm. Global average
pooling, one linear layer. torch's own initialisation, as in DACNN's code and in the usual PyTorch code for CIFAR.

The 18 layers have 11,220,132 parameters for 100 classes, the 34 layers 21,328,292; DACNN prints 0.09 M less for both.
"""

from __future__ import annotations

import re

import torch.nn.functional as F
from torch import Tensor, nn

from filtersmith.common.options import bad_option
from filtersmith.zoo.info import Task

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
"""Basic blocks of each stage, by depth."""
WIDTHS = (64, 128, 256, 512)
"""Filters of the convolutions in each stage."""


class ProjectedBlock(nn.Module):
    """Two 3x3 convolutions with batch norm; ReLU after the sum with the input, projected where the shape changes."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1: nn.Conv2d = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1: nn.BatchNorm2d = nn.BatchNorm2d(channels)
        self.conv2: nn.Conv2d = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2: nn.BatchNorm2d = nn.BatchNorm2d(channels)
        self.projection: nn.Sequential | None = None
        if stride != 1 or in_channels != channels:
            self.projection = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.projection is None else self.projection(x)
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(out)) + shortcut, inplace=True)


class SmallImageResNet(nn.Module):
    """ResNet of ``depth`` 18 or 34 for small images of any size; another depth raises ValueError.

    Takes (batch, in_channels, H, W), gives (batch, num_classes).
    """

    def __init__(self, depth: int, *, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        if depth not in BLOCKS:
            raise bad_option("resnet-cifar depth", depth, "18 or 34 (resnetD without -cifar: 6n+2)")
        first, second, third, fourth = WIDTHS
        self.conv1: nn.Conv2d = nn.Conv2d(in_channels, first, 3, padding=1, bias=False)
        self.bn1: nn.BatchNorm2d = nn.BatchNorm2d(first)
        one, two, three, four = BLOCKS[depth]
        self.layer1: nn.Sequential = _stage(one, first, first, stride=1)
        self.layer2: nn.Sequential = _stage(two, first, second, stride=2)
        self.layer3: nn.Sequential = _stage(three, second, third, stride=2)
        self.layer4: nn.Sequential = _stage(four, third, fourth, stride=2)
        self.fc: nn.Linear = nn.Linear(fourth, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.layer4(self.layer3(self.layer2(self.layer1(out))))
        return self.fc(F.adaptive_avg_pool2d(out, 1).flatten(1))  # type: ignore[no-any-return]


def _stage(blocks: int, in_channels: int, channels: int, stride: int) -> nn.Sequential:
    """``blocks`` basic blocks; the first one changes stride and channels."""
    first = ProjectedBlock(in_channels, channels, stride)
    return nn.Sequential(first, *(ProjectedBlock(channels, channels, 1) for _ in range(blocks - 1)))


def build(match: re.Match[str], task: Task) -> SmallImageResNet:
    """``resnetD-cifar``, D the depth."""
    return SmallImageResNet(int(match["depth"]), num_classes=task.num_classes, in_channels=task.in_channels)
