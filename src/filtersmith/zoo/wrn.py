"""The wide residual networks WRN-D-K of Zagoruyko and Komodakis (BMVC 2016), the wide-dropout block.

3x3 convolution of 16 filters, three stages of n blocks with 16K, 32K, 64K filters and strides 1, 2, 2, batch
norm, ReLU, global average pooling, one linear layer: depth D = 6n+4. Blocks are pre-activated. Where a block
changes the channels, its shortcut is a 1x1 convolution that shares the block's first batch norm and ReLU;
elsewhere the shortcut is the untouched input. Initialisation is that of the authors' Lua code: convolutions
from He's normal distribution (fan out), the linear bias 0, the rest as torch starts it.

The dropout between the convolutions of a block is 0.3, the authors' value for CIFAR with dropout. KFLO, which
compares methods on these networks with dropout, does not state its rate.
"""

from __future__ import annotations

import re

import torch.nn.functional as F
from torch import Tensor, nn

from filtersmith.common.options import bad_option
from filtersmith.zoo.info import Task, positive_int
from filtersmith.zoo.initial import he_fan_out


class WideBlock(nn.Module):
    """Batch norm, ReLU, 3x3 convolution; batch norm, ReLU, dropout, 3x3 convolution; plus the shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.bn1: nn.BatchNorm2d = nn.BatchNorm2d(in_channels)
        self.conv1: nn.Conv2d = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn2: nn.BatchNorm2d = nn.BatchNorm2d(channels)
        self.dropout: nn.Dropout = nn.Dropout(dropout)
        self.conv2: nn.Conv2d = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.projection: nn.Conv2d | None = None
        if in_channels != channels:
            self.projection = nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(x), inplace=True)
        shortcut = x if self.projection is None else self.projection(out)
        out = F.relu(self.bn2(self.conv1(out)), inplace=True)
        return self.conv2(self.dropout(out)) + shortcut  # type: ignore[no-any-return]


class WideResNet(nn.Module):
    """WRN of ``depth`` = 6n+4 >= 10 and widening factor ``width`` for small images of any size.

    Takes (batch, in_channels, H, W), gives (batch, num_classes). ``dropout`` is the share of activations
    dropped between the two convolutions of a block, in [0, 1]. Values out of range raise ValueError.
    """

    def __init__(
        self,
        depth: int,
        width: int,
        *,
        num_classes: int = 10,
        in_channels: int = 3,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise bad_option("wrn depth", depth, "6n+4 and at least 10 (10, 16, 22, 28, ...)")
        blocks, width = (depth - 4) // 6, positive_int("wrn width", width)
        self.conv1: nn.Conv2d = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.layer1: nn.Sequential = _stage(blocks, 16, 16 * width, 1, dropout)
        self.layer2: nn.Sequential = _stage(blocks, 16 * width, 32 * width, 2, dropout)
        self.layer3: nn.Sequential = _stage(blocks, 32 * width, 64 * width, 2, dropout)
        self.bn: nn.BatchNorm2d = nn.BatchNorm2d(64 * width)
        self.fc: nn.Linear = nn.Linear(64 * width, num_classes)
        he_fan_out(self)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        out = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        out = F.relu(self.bn(out), inplace=True)
        return self.fc(F.adaptive_avg_pool2d(out, 1).flatten(1))  # type: ignore[no-any-return]


def _stage(blocks: int, in_channels: int, channels: int, stride: int, dropout: float) -> nn.Sequential:
    """``blocks`` blocks; the first one changes stride and channels."""
    first = WideBlock(in_channels, channels, stride, dropout)
    return nn.Sequential(first, *(WideBlock(channels, channels, 1, dropout) for _ in range(blocks - 1)))


def build(match: re.Match[str], task: Task) -> WideResNet:
    """``wrn-D-K``, D the depth and K the widening factor."""
    depth, width = int(match["depth"]), int(match["width"])
    return WideResNet(depth, width, num_classes=task.num_classes, in_channels=task.in_channels)
