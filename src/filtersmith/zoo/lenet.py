"""LeNet-5 (LeCun et al., Proceedings of the IEEE 1998) as it is used today; KFLO's example network.

5x5 convolution of 6 filters with padding 2, pooling, 5x5 of 16 without padding, pooling, linear layers of 120,
84 and num_classes outputs: 28 -> 28 -> 14 -> 10 -> 5 pixels. Every layer has a bias and, but for the last one,
a ReLU; the poolings are 2x2 maxima. The original has scaled tanh, trainable average poolings, a partly
connected second convolution and radial basis outputs; KFLO's figure says nothing of these, nor of the widths.
No batch norm; torch's own initialisation.
"""

from __future__ import annotations

import re

import torch.nn.functional as F
from torch import Tensor, nn

from filtersmith.common.options import bad_option
from filtersmith.zoo.info import Task

SMALLEST = 12  # pixels: 12 -> 6 -> 2 -> 1


class LeNet5(nn.Module):
    """LeNet-5 for square images of ``image_size`` pixels, MNIST's by default.

    Takes (batch, in_channels, image_size, image_size), gives (batch, num_classes). An image of less than 12
    pixels, which the layers reduce to nothing, raises ValueError.
    """

    def __init__(self, *, num_classes: int = 10, in_channels: int = 1, image_size: int = 28) -> None:
        super().__init__()
        if image_size < SMALLEST:
            raise bad_option("image_size", image_size, f"at least {SMALLEST} for lenet5")
        side = (image_size // 2 - 4) // 2
        self.conv1: nn.Conv2d = nn.Conv2d(in_channels, 6, 5, padding=2)
        self.conv2: nn.Conv2d = nn.Conv2d(6, 16, 5)
        self.fc1: nn.Linear = nn.Linear(16 * side**2, 120)
        self.fc2: nn.Linear = nn.Linear(120, 84)
        self.fc3: nn.Linear = nn.Linear(84, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out = F.max_pool2d(F.relu(self.conv1(x), inplace=True), 2)
        out = F.max_pool2d(F.relu(self.conv2(out), inplace=True), 2)
        out = F.relu(self.fc1(out.flatten(1)), inplace=True)
        out = F.relu(self.fc2(out), inplace=True)
        return self.fc3(out)  # type: ignore[no-any-return]


def build(match: re.Match[str], task: Task) -> LeNet5:
    """``lenet5``."""
    return LeNet5(num_classes=task.num_classes, in_channels=task.in_channels, image_size=task.image_size)
