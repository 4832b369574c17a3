"""VGG-16 with batch norm as KFLO (Henig and Giryes, arXiv 2207.05532) and ACNet train it.

Thirteen times [3x3 convolution, padding 1, no bias, batch norm, ReLU] of 64, 128, 256, 512 and 512 filters,
2x2 max pooling after convolutions 2, 4, 7, 10 and 13, global average pooling, one linear layer of 512 outputs,
ReLU, one of num_classes. The text names the average; the authors' code leaves it out, because 32x32 images
arrive as 1x1, where both are the same. torch's own initialisation, as in their code.
"""

from __future__ import annotations

import re
from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn

from filtersmith.errors import bad_option
from filtersmith.zoo.info import Task

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
SMALLEST = 2 ** len(STAGES)  # pixels; every stage halves the image


class KfloVgg16(nn.Module):
    """VGG-16 with batch norm and two linear layers, for images of any size from 32 pixels.

    Takes (batch, in_channels, H, W), gives (batch, num_classes).
    """

    def __init__(self, *, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        number, channels = 0, in_channels
        for stage, widths in enumerate(STAGES, 1):
            for width in widths:
                number += 1
                layers[f"conv{number}"] = nn.Conv2d(channels, width, 3, padding=1, bias=False)
                layers[f"bn{number}"] = nn.BatchNorm2d(width)
                layers[f"relu{number}"] = nn.ReLU(inplace=True)
                channels = width
            layers[f"pool{stage}"] = nn.MaxPool2d(2)
        self.features = nn.Sequential(layers)
        self.fc1 = nn.Linear(channels, 512)
        self.fc2 = nn.Linear(512, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out = F.adaptive_avg_pool2d(self.features(x), 1).flatten(1)
        return self.fc2(F.relu(self.fc1(out), inplace=True))  # type: ignore[no-any-return]


def build(match: re.Match[str], task: Task) -> KfloVgg16:
    """``vgg16-kflo``; ValueError for images that the poolings reduce to nothing."""
    if task.image_size < SMALLEST:
        raise bad_option("image_size", task.image_size, f"at least {SMALLEST} for vgg16-kflo")
    return KfloVgg16(num_classes=task.num_classes, in_channels=task.in_channels)
