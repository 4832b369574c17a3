"""The CIFAR ResNets of He et al. (CVPR 2016, section 4.2) with parameter-free shortcuts (option A).

3x3 convolution of 16 filters, three stages of n basic blocks with 16, 32, 64 filters and strides 1, 2, 2,
global average pooling, one linear layer: depth 6n+2. Convolutions are drawn from He's normal distribution
(fan out), batch norm and the linear layer start as torch starts them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor, nn

from filtersmith.common.options import bad_option
from filtersmith.zoo.info import Task
from filtersmith.zoo.initial import he_fan_out

# Depths of the ImageNet networks that are no 6n+2: who asks for one of them most likely means that one.
_OTHERS = {
    18: "; ImageNet's is torchvision:resnet18, made for small images it is resnet18-cifar",
    34: "; ImageNet's is torchvision:resnet34, made for small images it is resnet34-cifar",
    101: "; ImageNet's is torchvision:resnet101",
}


def option_a(x: Tensor, channels: int, stride: int) -> Tensor:
    """The parameter-free shortcut: every ``stride``-th pixel of ``x`` (N, C, H, W), zero channels added.

    The added channels are split evenly before and after the C old ones. Gives (N, channels, ceil(H/stride),
    ceil(W/stride)), the same height and width as a padded 3x3 convolution of that stride.
    """
    added = channels - x.shape[1]
    return F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, added // 2, added - added // 2))


@dataclass(frozen=True)
class Norm:
    """What stands behind a convolution: batch norm, in the ablation of WAU (Sec. 6.5, Fig. 5) behind dropout.

    ``dropout`` is its probability, ``channels`` whether whole channels are dropped, ``affine`` whether the batch norm
    has scale and shift.
    """

    dropout: float = 0.0
    channels: bool = False
    affine: bool = True

    def __call__(self, channels: int) -> nn.Module:
        norm = nn.BatchNorm2d(channels, affine=self.affine)
        if not self.dropout:
            return norm
        return nn.Sequential(nn.Dropout2d(self.dropout) if self.channels else nn.Dropout(self.dropout), norm)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm; ReLU after the sum with the shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv1: nn.Conv2d = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1: nn.Module = norm(channels)
        self.conv2: nn.Conv2d = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2: nn.Module = norm(channels)
        self.channels: int = channels
        self.stride: int = stride
        self.changes_shape: bool = stride != 1 or in_channels != channels

    def forward(self, x: Tensor) -> Tensor:
        shortcut = option_a(x, self.channels, self.stride) if self.changes_shape else x
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(out)) + shortcut, inplace=True)


class CifarResNet(nn.Module):
    """ResNet of ``depth`` = 6n+2 >= 8 for small images of any size (4 pixels and more).

    Takes (batch, in_channels, H, W), gives (batch, num_classes). Another depth raises ValueError. ``norm`` makes what
    stands behind each convolution; by default a batch norm.
    """

    def __init__(self, depth: int, *, num_classes: int = 10, in_channels: int = 3, norm: Norm | None = None) -> None:
        super().__init__()
        norm = norm or Norm()
        if depth < 8 or (depth - 2) % 6:
            allowed = f"6n+2 and at least 8 (8, 14, 20, ...{_OTHERS.get(depth, '')})"
            raise bad_option("resnet depth", depth, allowed)
        blocks = (depth - 2) // 6
        self.conv1: nn.Conv2d = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1: nn.Module = norm(16)
        self.layer1: nn.Sequential = _stage(blocks, 16, 16, 1, norm)
        self.layer2: nn.Sequential = _stage(blocks, 16, 32, 2, norm)
        self.layer3: nn.Sequential = _stage(blocks, 32, 64, 2, norm)
        self.fc: nn.Linear = nn.Linear(64, num_classes)
        he_fan_out(self)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.layer3(self.layer2(self.layer1(out)))
        return self.fc(F.adaptive_avg_pool2d(out, 1).flatten(1))  # type: ignore[no-any-return]


def _stage(blocks: int, in_channels: int, channels: int, stride: int, norm: Norm) -> nn.Sequential:
    """``blocks`` basic blocks; the first one changes stride and channels."""
    first = BasicBlock(in_channels, channels, stride, norm)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1, norm) for _ in range(blocks - 1)))


_BLOCKS = {
    None: Norm(),
    "b1": Norm(dropout=0.5),
    "b2": Norm(dropout=0.5, affine=False),
    "noaffine": Norm(affine=False),
}
"""The blocks of WAU's ablation by their names."""


def build(match: re.Match[str], task: Task) -> CifarResNet:
    """``resnetD``, D the depth; with a block of WAU's ablation ``resnetD-b1``, ``-b2``, ``-noaffine``."""
    norm = replace(_BLOCKS[match["block"]], channels=match["channels"] is not None)
    depth = int(match["depth"])
    return CifarResNet(depth, num_classes=task.num_classes, in_channels=task.in_channels, norm=norm)
