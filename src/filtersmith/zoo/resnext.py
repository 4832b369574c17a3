"""ResNeXt-29 for small images (Xie et al., CVPR 2017, section 5.2): C groups of width W, written CxWd.

3x3 convolution of 64 filters, three stages of three bottleneck blocks with 256, 512, 1024 outputs and strides 1, 2,
2, global average pooling, one linear layer: 1 + 3*3*3 + 1 = 29 layers. A block is a 1x1 convolution to C*W filters
(2CW and 4CW in the later stages), a 3x3 one in C groups, a 1x1 one to the outputs, each with batch norm, the shortcut
added before the last ReLU. Where a block changes the channels, its shortcut is a 1x1 convolution with batch norm.
Initialisation is that of the authors' Lua code: convolutions from He's normal distribution (fan out), the linear bias
0, the rest as torch starts it. WAU trains 8x64d.
"""

from __future__ import annotations

import re

import torch.nn.functional as F
from torch import Tensor, nn

from filtersmith.zoo.info import Task, positive_int
from filtersmith.zoo.initial import he_fan_out

WIDTHS = (64, 256, 512, 1024)
"""Outputs of the first convolution and of each stage."""


class GroupedBlock(nn.Module):
    """1x1, grouped 3x3 and 1x1 convolution with batch norm; ReLU after the sum with the shortcut."""

    def __init__(self, in_channels: int, inner: int, channels: int, stride: int, groups: int) -> None:
        super().__init__()
        self.conv1: nn.Conv2d = nn.Conv2d(in_channels, inner, 1, bias=False)
        self.bn1: nn.BatchNorm2d = nn.BatchNorm2d(inner)
        self.conv2: nn.Conv2d = nn.Conv2d(inner, inner, 3, stride=stride, padding=1, groups=groups, bias=False)
        self.bn2: nn.BatchNorm2d = nn.BatchNorm2d(inner)
        self.conv3: nn.Conv2d = nn.Conv2d(inner, channels, 1, bias=False)
        self.bn3: nn.BatchNorm2d = nn.BatchNorm2d(channels)
        self.projection: nn.Sequential | None = None
        if in_channels != channels:
            self.projection = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.projection is None else self.projection(x)
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        return F.relu(self.bn3(self.conv3(out)) + shortcut, inplace=True)


class ResNeXt29(nn.Module):
    """ResNeXt-29 of ``groups`` groups, each ``width`` filters wide in the first stage, for images of any size.

    Takes (batch, in_channels, H, W), gives (batch, num_classes). ``groups`` or ``width`` below 1 raises ValueError.
    """

    def __init__(self, groups: int, width: int, *, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        groups, width = positive_int("resnext groups", groups), positive_int("resnext width", width)
        inner = groups * width
        first, one, two, three = WIDTHS
        self.conv1: nn.Conv2d = nn.Conv2d(in_channels, first, 3, padding=1, bias=False)
        self.bn1: nn.BatchNorm2d = nn.BatchNorm2d(first)
        self.layer1: nn.Sequential = _stage(first, inner, one, 1, groups)
        self.layer2: nn.Sequential = _stage(one, 2 * inner, two, 2, groups)
        self.layer3: nn.Sequential = _stage(two, 4 * inner, three, 2, groups)
        self.fc: nn.Linear = nn.Linear(three, num_classes)
        he_fan_out(self)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.layer3(self.layer2(self.layer1(out)))
        return self.fc(F.adaptive_avg_pool2d(out, 1).flatten(1))  # type: ignore[no-any-return]


def _stage(in_channels: int, inner: int, channels: int, stride: int, groups: int) -> nn.Sequential:
    """Three blocks; the first one changes stride and channels."""
    first = GroupedBlock(in_channels, inner, channels, stride, groups)
    return nn.Sequential(first, *(GroupedBlock(channels, inner, channels, 1, groups) for _ in range(2)))


def build(match: re.Match[str], task: Task) -> ResNeXt29:
    """``resnext29-CxWd``, C the groups and W the width of one."""
    groups, width = int(match["groups"]), int(match["width"])
    return ResNeXt29(groups, width, num_classes=task.num_classes, in_channels=task.in_channels)
