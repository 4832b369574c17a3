"""The DenseNets for small images (Huang et al., CVPR 2017) of depth D and growth rate K.

3x3 convolution, three dense blocks with a transition between two of them, batch norm, ReLU, global average pooling,
one linear layer. A layer of a block is batch norm, ReLU and a 3x3 convolution of K filters; what it makes is appended
to what it got. A transition is batch norm, ReLU, a 1x1 convolution and 2x2 average pooling.

- plain (``densenet-D-K``): depth 3n+4, 16 filters at the start, transitions keep the number of channels. RePr's.
- bottlenecks and compression (``densenet-bc-D-K``): depth 6n+4, 2K filters at the start, a 1x1 convolution of 4K
  filters (and its batch norm and ReLU) in every layer before the 3x3 one, transitions halve the channels. WAU's,
  whose table says DenseNet only.
- ``densenet-5-K``: RePr's network of five layers with 1.7 thousand parameters. Its layout is not printed, and none
  that was tried gives that number. This one is the convolution at the start, ONE dense block of three layers and the
  linear layer, 1 + 3 + 1 = 5: for K = 12 and colour images 432 + (32 + 1,728) + (56 + 3,024) + (80 + 4,320) + 104 =
  9,776 parameters without the linear layer (start; batch norm and convolution of three layers; last batch norm).

Initialisation is that of the authors' Lua code: convolutions from He's normal distribution (fan out), the linear bias
0, the rest as torch starts it. No dropout, as in WAU.
"""

from __future__ import annotations

import re

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from filtersmith.common.options import bad_option
from filtersmith.zoo.info import Task, positive_int
from filtersmith.zoo.initial import he_fan_out

ONE_BLOCK = 5
"""The plain depth that has one dense block instead of three."""
SMALLEST = 4  # pixels; both transitions halve the image


class DenseLayer(nn.Module):
    """Batch norm, ReLU, 3x3 convolution; appended to its input. With ``inner`` filters of 1x1 in front."""

    def __init__(self, in_channels: int, growth: int, inner: int | None) -> None:
        super().__init__()
        self.bn1: nn.BatchNorm2d = nn.BatchNorm2d(in_channels)
        self.reduce: nn.Sequential | None = None
        if inner is not None:
            self.reduce = nn.Sequential(
                nn.Conv2d(in_channels, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU(inplace=True)
            )
        self.conv: nn.Conv2d = nn.Conv2d(in_channels if inner is None else inner, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(x))
        if self.reduce is not None:
            out = self.reduce(out)
        return torch.cat((x, self.conv(out)), 1)


class DenseNet(nn.Module):
    """DenseNet of ``depth`` layers and growth rate ``growth`` for small images from 4 pixels.

    Takes (batch, in_channels, H, W), gives (batch, num_classes). ``bc``: with bottlenecks and compression. A depth
    other than 3n+4 >= 7 or 5 (``bc``: 6n+4 >= 10) or a growth rate below 1 raises ValueError.
    """

    def __init__(
        self, depth: int, growth: int, *, bc: bool = False, num_classes: int = 10, in_channels: int = 3
    ) -> None:
        super().__init__()
        layers = _layers(depth, bc)
        growth = positive_int("densenet growth rate", growth)
        channels = 2 * growth if bc else 16
        self.conv1: nn.Conv2d = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.features: nn.Sequential = nn.Sequential()
        for number, count in enumerate(layers, 1):
            if number > 1:
                out = channels // 2 if bc else channels
                self.features.add_module(f"transition{number - 1}", _transition(channels, out))
                channels = out
            block = nn.Sequential()
            for _ in range(count):
                block.append(DenseLayer(channels, growth, 4 * growth if bc else None))
                channels += growth
            self.features.add_module(f"block{number}", block)
        self.bn: nn.BatchNorm2d = nn.BatchNorm2d(channels)
        self.fc: nn.Linear = nn.Linear(channels, num_classes)
        he_fan_out(self)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn(self.features(self.conv1(x))))
        return self.fc(F.adaptive_avg_pool2d(out, 1).flatten(1))  # type: ignore[no-any-return]


def _layers(depth: int, bc: bool) -> list[int]:
    """Layers of each dense block; ValueError for a depth that does not exist."""
    if bc:
        if depth < 10 or (depth - 4) % 6:
            raise bad_option("densenet-bc depth", depth, "6n+4 and at least 10 (10, 16, 22, 28, ...)")
        return [(depth - 4) // 6] * 3
    if depth == ONE_BLOCK:
        return [3]
    if depth < 7 or (depth - 4) % 3:
        raise bad_option("densenet depth", depth, "3n+4 and at least 7 (7, 10, 13, ...), or 5")
    return [(depth - 4) // 3] * 3


def _transition(in_channels: int, channels: int) -> nn.Sequential:
    """Batch norm, ReLU, 1x1 convolution, halved height and width."""
    conv = nn.Conv2d(in_channels, channels, 1, bias=False)
    return nn.Sequential(nn.BatchNorm2d(in_channels), nn.ReLU(inplace=True), conv, nn.AvgPool2d(2))


def build(match: re.Match[str], task: Task) -> DenseNet:
    """``densenet-D-K``, D the depth and K the growth rate.

    ValueError for images that the poolings reduce to nothing.
    """
    return _build(match, task, bc=False)


def build_bc(match: re.Match[str], task: Task) -> DenseNet:
    """``densenet-bc-D-K``, likewise."""
    return _build(match, task, bc=True)


def _build(match: re.Match[str], task: Task, *, bc: bool) -> DenseNet:
    depth, growth = int(match["depth"]), int(match["growth"])
    network = DenseNet(depth, growth, bc=bc, num_classes=task.num_classes, in_channels=task.in_channels)
    if task.image_size < SMALLEST and depth != ONE_BLOCK:
        raise bad_option("image_size", task.image_size, f"at least {SMALLEST} for {match[0]}")
    return network
