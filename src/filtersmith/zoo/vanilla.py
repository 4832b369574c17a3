"""C^n(X), the plain ConvNet of RePr (Prakash et al., CVPR 2019).

n times [3x3 convolution of X filters, padding 1, bias, batch norm, ReLU], no pooling, then one linear
layer on all positions. The paper gives no initialisation: torch's own is used.
"""

from __future__ import annotations

import re

from torch import Tensor, nn

from filtersmith.zoo.info import Task, positive_int


class Vanilla(nn.Module):
    """C^n(X): ``layers`` convolutions of ``width`` filters, for square images of ``image_size`` pixels.

    Takes (batch, in_channels, image_size, image_size), gives (batch, num_classes). ``bn=False`` leaves
    the batch norm out; ``dropout`` stands behind each ReLU. ``layers`` or ``width`` below 1 raises ValueError.
    """

    def __init__(
        self,
        layers: int = 3,
        width: int = 32,
        *,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: int = 32,
        bn: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        layers, width = positive_int("vanilla layers", layers), positive_int("vanilla width", width)
        blocks: list[nn.Module] = []
        for index in range(layers):
            blocks.append(nn.Conv2d(width if index else in_channels, width, 3, padding=1))
            if bn:
                blocks.append(nn.BatchNorm2d(width))
            blocks.append(nn.ReLU(inplace=True))
            if dropout:
                blocks.append(nn.Dropout(dropout))
        self.features: nn.Sequential = nn.Sequential(*blocks)
        self.fc: nn.Linear = nn.Linear(width * image_size**2, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).flatten(1))  # type: ignore[no-any-return]


def build(match: re.Match[str], task: Task) -> Vanilla:
    """``vanilla`` is C^3(32), ``vanilla-N-X`` is C^N(X); with ``-nobn`` and ``-dropout``, of 0.5 (RePr, Fig. 7)."""
    layers, width = match["layers"] or "3", match["width"] or "32"
    return Vanilla(
        int(layers),
        int(width),
        num_classes=task.num_classes,
        in_channels=task.in_channels,
        image_size=task.image_size,
        bn=match["nobn"] is None,
        dropout=0.5 if match["dropout"] else 0.0,
    )
