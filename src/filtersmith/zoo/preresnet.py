"""The pre-activated CIFAR ResNets of He et al. (Identity Mappings, ECCV 2016), as WAU trains them.

3x3 convolution of 16 filters, three stages of n basic blocks with 16, 32, 64 filters and strides 1, 2, 2, batch norm,
ReLU, global average pooling, one linear layer: depth 6n+2. Where a block changes the shape, its shortcut is a 1x1
convolution without batch norm of the block's untouched input, as in WAU's code. So is the initialisation:
convolutions from He's normal distribution (fan out), batch norm and the linear layer as torch starts them.
"""

from __future__ import annotations

import re

import torch.nn.functional as F
from torch import Tensor, nn

from filtersmith.common.options import bad_option
from filtersmith.zoo.info import Task
from filtersmith.zoo.initial import he_fan_out


class PreActBlock(nn.Module):
    """Twice [batch norm, ReLU, 3x3 convolution], plus the input, projected where the shape changes."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1: nn.BatchNorm2d = nn.BatchNorm2d(in_channels)
        self.conv1: nn.Conv2d = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn2: nn.BatchNorm2d = nn.BatchNorm2d(channels)
        self.conv2: nn.Conv2d = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.projection: nn.Conv2d | None = None
        if stride != 1 or in_channels != channels:
            self.projection = nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.projection is None else self.projection(x)
        out = self.conv1(F.relu(self.bn1(x)))
        return self.conv2(F.relu(self.bn2(out))) + shortcut  # type: ignore[no-any-return]


class PreResNet(nn.Module):
    """Pre-activated ResNet of ``depth`` = 6n+2 >= 8 for small images of any size.

    Takes (batch, in_channels, H, W), gives (batch, num_classes). Another depth raises ValueError.
    """

    def __init__(self, depth: int, *, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise bad_option("preresnet depth", depth, "6n+2 and at least 8 (8, 14, 20, ...)")
        blocks = (depth - 2) // 6
        self.conv1: nn.Conv2d = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.layer1: nn.Sequential = _stage(blocks, 16, 16, stride=1)
        self.layer2: nn.Sequential = _stage(blocks, 16, 32, stride=2)
        self.layer3: nn.Sequential = _stage(blocks, 32, 64, stride=2)
        self.bn: nn.BatchNorm2d = nn.BatchNorm2d(64)
        self.fc: nn.Linear = nn.Linear(64, num_classes)
        he_fan_out(self)

    def forward(self, x: Tensor) -> Tensor:
        out = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        out = F.relu(self.bn(out))
        return self.fc(F.adaptive_avg_pool2d(out, 1).flatten(1))  # type: ignore[no-any-return]


def _stage(blocks: int, in_channels: int, channels: int, stride: int) -> nn.Sequential:
    """``blocks`` blocks; the first one changes stride and channels."""
    first = PreActBlock(in_channels, channels, stride)
    return nn.Sequential(first, *(PreActBlock(channels, channels, 1) for _ in range(blocks - 1)))


def build(match: re.Match[str], task: Task) -> PreResNet:
    """``preresnetD``, D the depth."""
    return PreResNet(int(match["depth"]), num_classes=task.num_classes, in_channels=task.in_channels)
