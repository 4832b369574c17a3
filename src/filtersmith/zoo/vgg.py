"""VGG with batch norm for small images (Simonyan and Zisserman, ICLR 2015), in the two forms that are in use.

3x3 convolutions with padding 1, each with batch norm and ReLU, in five stages of 64, 128, 256, 512 and 512 filters,
2x2 max pooling after each stage, then the global average: 32x32 images arrive as 1x1, where most code leaves it out.

- ``vgg16-kflo`` of KFLO (Henig and Giryes, arXiv 2207.05532) and ACNet: convolutions without bias, one linear layer
  of 512 outputs, ReLU, one of num_classes. torch's own initialisation, as in their code.
- ``vgg16-bn`` and ``vgg19-bn``, DACNN's baseline and WAU's network: convolutions with bias, one linear layer. The
  initialisation is the usual one of PyTorch code, torchvision's: convolutions from He's normal distribution (fan
  out), the linear layer from a normal distribution of deviation 0.01, biases 0.
"""

from __future__ import annotations

import re
from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn

from filtersmith.common.options import bad_option
from filtersmith.zoo.info import Task
from filtersmith.zoo.initial import he_fan_out

WIDTHS = (64, 128, 256, 512, 512)
"""Filters of the convolutions in each stage."""
CONVOLUTIONS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Convolutions in each stage, by depth."""
SMALLEST = 2 ** len(WIDTHS)  # pixels; every stage halves the image


def features(depth: int, in_channels: int, *, bias: bool) -> nn.Sequential:
    """The convolutions of VGG-16 or VGG-19: conv1, bn1, relu1, conv2, ..., pool1, ..., pool5.

    Takes (batch, in_channels, H, W), gives (batch, 512, H // 32, W // 32). ``bias``: of the convolutions.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    number, channels = 0, in_channels
    for stage, (count, width) in enumerate(zip(CONVOLUTIONS[depth], WIDTHS, strict=True), 1):
        for _ in range(count):
            number += 1
            layers[f"conv{number}"] = nn.Conv2d(channels, width, 3, padding=1, bias=bias)
            layers[f"bn{number}"] = nn.BatchNorm2d(width)
            layers[f"relu{number}"] = nn.ReLU(inplace=True)
            channels = width
        layers[f"pool{stage}"] = nn.MaxPool2d(2)
    return nn.Sequential(layers)


class KfloVgg16(nn.Module):
    """VGG-16 with batch norm and two linear layers, for images of any size from 32 pixels.

    Takes (batch, in_channels, H, W), gives (batch, num_classes).
    """

    def __init__(self, *, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.features: nn.Sequential = features(16, in_channels, bias=False)
        self.fc1: nn.Linear = nn.Linear(WIDTHS[-1], 512)
        self.fc2: nn.Linear = nn.Linear(512, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out = F.adaptive_avg_pool2d(self.features(x), 1).flatten(1)
        return self.fc2(F.relu(self.fc1(out), inplace=True))  # type: ignore[no-any-return]


class VggBn(nn.Module):
    """VGG of ``depth`` 16 or 19 with batch norm and one linear layer, for images of any size from 32 pixels.

    Takes (batch, in_channels, H, W), gives (batch, num_classes). Another depth raises ValueError.
    """

    def __init__(self, depth: int, *, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        if depth not in CONVOLUTIONS:
            raise bad_option("vgg-bn depth", depth, "16 or 19")
        self.features: nn.Sequential = features(depth, in_channels, bias=True)
        self.fc: nn.Linear = nn.Linear(WIDTHS[-1], num_classes)
        he_fan_out(self)
        nn.init.normal_(self.fc.weight, std=0.01)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.adaptive_avg_pool2d(self.features(x), 1).flatten(1))  # type: ignore[no-any-return]


def build_kflo(match: re.Match[str], task: Task) -> KfloVgg16:
    """``vgg16-kflo``; ValueError for images that the poolings reduce to nothing."""
    _check_size(match, task)
    return KfloVgg16(num_classes=task.num_classes, in_channels=task.in_channels)


def build_bn(match: re.Match[str], task: Task) -> VggBn:
    """``vggD-bn``, D the depth; ValueError for images that the poolings reduce to nothing."""
    _check_size(match, task)
    return VggBn(int(match["depth"]), num_classes=task.num_classes, in_channels=task.in_channels)


def _check_size(match: re.Match[str], task: Task) -> None:
    if task.image_size < SMALLEST:
        raise bad_option("image_size", task.image_size, f"at least {SMALLEST} for {match[0]}")
