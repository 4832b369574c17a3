"""Zeros behind what mixes channels: they are right up to what adds up, and nothing else may be made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from reference.channel_graphs import conv, head
from reference.masked import FILTERS, verdict
from torch import Tensor, nn
from torch.nn import functional as F

from filtersmith.graph.channels import channel_graph


def shuffled(y: Tensor) -> Tensor:
    return y.view(-1, 2, 3, 6, 4).transpose(1, 2).flatten(1, 2)


def behind(y: Tensor) -> Tensor:
    return y.permute(0, 2, 3, 1)


def over_deviation(z: Tensor) -> Tensor:
    return z / z.std((1, 2), keepdim=True)


CALLS: dict[str, tuple[str, Callable[..., Any]]] = {
    "shuffled": ("zeros", lambda s, y: F.relu(shuffled(y))),
    "reshaped with its own numbers": ("zeros", lambda s, y: y.reshape(y.shape[0], y.shape[1], -1)),
    "by a module": ("zeros", lambda s, y: s.pixels(F.hardtanh(s.shuffle(y), -1, 2))),
    "a norm": ("zeros in its place meet norm", lambda s, y: s.norm(behind(y)).permute(0, 3, 1, 2)),
    "depthwise, with a bias": ("zeros in its place meet depthwise", lambda s, y: s.depthwise(shuffled(y))),
    "depthwise": ("zeros", lambda s, y: s.bare(shuffled(y))),
    "a batch norm": ("zeros in its place meet batch", lambda s, y: s.batch(s.bare(shuffled(y)))),
    "over neighbours": ("zeros", lambda s, y: s.neighbours(shuffled(y))),
    "a linear layer": ("zeros", lambda s, y: s.linear(behind(y)).sigmoid().permute(0, 3, 1, 2)),
    "a product of matrices": ("zeros", lambda s, y: (behind(y) @ s.square).exp().permute(0, 3, 1, 2)),
    "a sum with others": ("zeros", lambda s, y: over_deviation(behind(y) + behind(s.other(y))).permute(0, 3, 1, 2)),
    "a fixed batch": ("zeros", lambda s, y: F.relu(y.view(2, -1))),
    "two images as one": ("zeros", lambda s, y: y.mean((2, 3)).view(y.shape[0] // 2, -1)),
    "rows that are no images": ("zeros", lambda s, y: y.view(-1, 24)),
    "over its deviation": ("zeros in its place meet truediv", lambda s, y: over_deviation(behind(y)).flatten(1)),
    "twice the same": ("meet truediv", lambda s, y: over_deviation(behind(y) + behind(y)).flatten(1)),
    "sigmoid": ("zeros in its place meet sigmoid", lambda s, y: shuffled(y).sigmoid()),
    "a gated half": (
        "meet sigmoid",
        lambda s, y: (lambda halves: halves[0] * halves[1].sigmoid())(shuffled(y).chunk(2, 1)),
    ),
    "more": ("zeros in its place meet add", lambda s, y: (shuffled(y) + 1.0).log().sum(1, keepdim=True)),
    "a parameter": ("zeros in its place meet add", lambda s, y: (shuffled(y) + s.square.mean()).relu()),
    "power": ("zeros in its place meet pow", lambda s, y: shuffled(y) ** -1),
    "padding": ("zeros in its place meet pad", lambda s, y: F.pad(shuffled(y), (1, 1), value=2.0)),
    "softmax": ("zeros in its place meet softmax", lambda s, y: behind(y).softmax(1)),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls(name: str) -> None:
    expected, forward = CALLS[name]
    found = verdict(
        forward,
        other=nn.Conv2d(FILTERS, FILTERS, 1),
        shuffle=nn.ChannelShuffle(3),
        pixels=nn.PixelShuffle(1),
        norm=nn.LayerNorm(FILTERS),
        batch=nn.BatchNorm2d(FILTERS),
        neighbours=nn.LocalResponseNorm(2),
        depthwise=nn.Conv2d(FILTERS, FILTERS, 1, groups=FILTERS),
        bare=nn.Conv2d(FILTERS, FILTERS, 1, groups=FILTERS, bias=False),
        linear=nn.Linear(FILTERS, 5),
        square=nn.Parameter(torch.ones(FILTERS, FILTERS)),
    )
    assert found == expected or (expected != "zeros" and expected in found)


class Shuffling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = conv(3, FILTERS)

    def forward(self, x: Tensor) -> Tensor:
        return shuffled(self.first(x))


class OfValues(nn.Module):
    """What it computes depends on values, so that it cannot be traced; but it calls its part as a whole."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part, self.last, self.head = part, conv(FILTERS), head()

    def forward(self, x: Tensor) -> Any:
        return self.head(self.last(self.part(x))) if x.sum() > 0 else x


def test_zeros_that_leave_a_part_of_the_network() -> None:
    graph = channel_graph(OfValues(Shuffling()))
    assert "leave the part" in graph.reasons["part.first"]
