"""A block of ConvNeXt twice: linear layers on channels that stand last, and the 1x1 convolutions that they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """``between`` is called with the block and what ``wide`` gives, behind the activation."""

    def __init__(self, linear: bool, between: Callable[..., Any] = lambda s, y: y) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.depthwise, self.norm = nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.LayerNorm(6)
        layer: Any = nn.Linear if linear else lambda inputs, filters: nn.Conv2d(inputs, filters, 1)
        self.wide, self.act, self.drop = layer(6, 12), nn.GELU(), nn.Dropout(0.0)
        self.narrow = layer(12, 6)
        self.scale = nn.Parameter(torch.rand(6))
        self.fc = nn.Linear(6, 4)
        self.linear, self.between = linear, between

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = y if self.linear else y.permute(0, 3, 1, 2)
        y = self.narrow(self.between(self, self.drop(self.act(self.wide(y)))))
        y = y if self.linear else y.permute(0, 2, 3, 1)
        return self.fc((x + (y * self.scale).permute(0, 3, 1, 2)).mean((2, 3)))  # type: ignore[no-any-return]


def pair() -> tuple[Block, Block]:
    """With linear layers and with convolutions, in float64, the same values in both."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        linear, convolutional = Block(True).double(), Block(False).double()
    own = convolutional.state_dict()
    convolutional.load_state_dict({name: value.view_as(own[name]) for name, value in linear.state_dict().items()})
    return linear, convolutional
