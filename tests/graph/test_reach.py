"""Which modules are surely called as a whole by code that cannot be traced."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from filtersmith.graph.reach import Reach
from filtersmith.graph.trace import parts


def conv() -> nn.Conv2d:
    return nn.Conv2d(3, 3, 1)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.act = conv(), nn.ReLU()

    def forward(self, x: Tensor, skip: Any = None) -> Tensor:
        x = self.act(self.inner(x))
        return x if skip is None else x + skip


class Parent(nn.Module):
    """A Sequential, a block, and a list of both; what is traced of it depends on what ``forward`` does with them."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.block = nn.Sequential(conv(), nn.ReLU(), conv()), Block()
        self.layers = nn.ModuleList([Block(), nn.Sequential(conv())])


class Calling(Parent):
    def forward(self, x: Tensor) -> Tensor:
        x = self.block(self.body(x))
        return x if x.sum() > 0 else -x


class Looping(Parent):
    def forward(self, x: Tensor) -> Tensor:
        for layer in (*self.body, *self.layers):
            x = layer(x)
        return x if x.sum() > 0 else self.block(x, x)


class Reading(Parent):
    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) if x.sum() > 0 else x * self.block.inner.weight.sum()


class Asking(Parent):
    def forward(self, x: Tensor) -> Tensor:
        return getattr(self, "bo" + "dy")(x) if x.sum() > 0 else self.block(x)


def helped(network: Any, x: Tensor) -> Tensor:
    return network.body[:1](x)


class Helped(Parent):
    def forward(self, x: Tensor) -> Tensor:
        return helped(self, x) if x.sum() > 0 else self.block(x)


class Searching(Parent):
    def forward(self, x: Tensor) -> Tensor:
        return list(self.modules())[2](x) if x.sum() > 0 else self.block(self.body(x))


class Holding(Parent):
    def __init__(self) -> None:
        super().__init__()
        self.todo = [self.body[0]]

    def forward(self, x: Tensor) -> Tensor:
        return self.todo[0](x) if x.sum() > 0 else self.block(self.body(x))


class Sharing(Parent):
    def __init__(self) -> None:
        super().__init__()
        self.stem = self.body[2]

    def forward(self, x: Tensor) -> Tensor:
        return self.stem(x) if x.sum() > 0 else self.block(self.body(x))


@pytest.mark.parametrize(
    ("kind", "whole"),
    [
        (Calling, ["body.", "block."]),
        (Looping, ["body.1."]),
        (Reading, ["body."]),
        (Asking, ["body.1."]),
        (Helped, ["body.1.", "block."]),
        (Searching, []),
        (Holding, ["body.1.", "block."]),
        (Sharing, ["body.1.", "block."]),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)
def test_what_untraceable_code_does_decides(kind: type[Parent], whole: list[str]) -> None:
    network = kind()
    with_layers = [part.prefix for part in parts(network, False)]
    assert [prefix for prefix in with_layers if not prefix.startswith("layers") and prefix != "block.act."] == whole
    network(torch.randn(2, 3, 4, 4))


def test_how_a_child_is_called() -> None:
    network = Calling()
    reach = Reach(network)
    assert reach.calls(network, "block", network.block) == "alone"
    looping = Looping()
    reach = Reach(looping)
    assert reach.calls(looping, "block", looping.block) == "somehow"
    assert reach.calls(looping, "layers", looping.layers) is None
    assert reach.calls(looping.layers, "0", looping.layers[0]) == "somehow"
