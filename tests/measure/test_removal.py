"""How a filter is left out of stored values: places written by hand, and what a layer computes without them."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from reference.ranked_nets import case
from torch import nn

from filtersmith.graph.channels import channel_graph
from filtersmith.measure.removal import Consumer, removal_of, zeroed


def where(name: str, layer: str) -> tuple[str, list[list[int]], dict[str, list[list[int]]], bool]:
    """The cut with the channels there, the consumers with theirs, and whether nothing else meets them."""
    removal = removal_of(channel_graph(case(name).model), layer)
    consumers = {str(node.target): consumer.channels for node, consumer in removal.consumers.items()}
    cut: Any = removal.cut.target
    return getattr(cut, "__name__", cut), removal.channels, consumers, removal.everywhere


def places(start: int, filters: int, repeats: int = 1) -> list[list[int]]:
    return [[start + f * repeats + n for n in range(repeats)] for f in range(filters)]


def test_where_filters_are_taken_away() -> None:
    assert where("vanilla", "features.0") == ("features.2", places(0, 6), {"features.3": places(0, 6)}, True)
    assert where("dense", "conv1") == (
        "conv1",
        places(0, 4),
        {"conv2": places(5, 4), "down": places(5, 4)},
        True,
    )
    cut, channels, consumers, everywhere = where("inverted", "a")
    assert (cut, channels, consumers) == ("bn", places(0, 4, repeats=2), {}), "behind the depthwise one's norm"
    assert not everywhere, "a sum needs zeros"
    assert where("gated", "c")[2:] == ({"d": places(4, 4)}, False), "a group norm over several channels"
    assert where("gated", "gate")[2:] == ({}, False), "a gate is multiplied"


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels last"])
@pytest.mark.parametrize(
    ("module", "width", "shape"),
    [
        (nn.Conv2d(6, 4, 3, stride=2, padding=1, dilation=1), 6, (6, 7, 7)),
        (nn.Conv2d(6, 4, 3, padding="same"), 6, (6, 7, 7)),
        (nn.Conv1d(6, 4, 3), 6, (6, 7)),
        (nn.Conv3d(6, 4, 2), 6, (6, 4, 4, 4)),
        (nn.Linear(24, 4), 6, (24,)),
    ],
    ids=["2d", "same", "1d", "3d", "linear"],
)
def test_what_a_layer_gives_without_some_of_its_input(
    module: nn.Module, width: int, shape: tuple[int, ...], last: bool
) -> None:
    module = module.double()
    x = torch.randn(3, *shape, dtype=torch.float64)
    if last and x.ndim == 4:
        x, module = x.to(memory_format=torch.channels_last), module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    consumer = Consumer(module, width, [[1], [0, 4]])
    assert consumer.plain()
    with torch.no_grad():
        for f, channels in enumerate(consumer.channels):
            expected = module(zeroed(x, width, channels))
            torch.testing.assert_close(consumer.without(module(x), x, f), expected)


def test_what_is_not_taken_apart() -> None:
    hooked = nn.Conv2d(4, 4, 1)
    hooked.register_forward_hook(lambda module, inputs, output: None)
    for module in (hooked, nn.Conv2d(4, 4, 1, groups=2), nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular")):
        assert not Consumer(module, 4, [[0]]).plain()
    assert not Consumer(nn.ConvTranspose2d(4, 4, 1), 4, [[0]]).plain()


def test_a_channel_that_moves_nothing() -> None:
    conv = nn.Conv2d(4, 2, 1)
    x = torch.randn(2, 4, 3, 3)
    x[:, 0] = 0
    with torch.no_grad():
        conv.weight[:, 2] = 0
    assert Consumer(conv, 4, [[0], [1], [2], [3]]).unmoved(x) == [True, False, True, False]
    assert Consumer(conv, 4, [[0, 1], [0, 2]]).unmoved(x) == [False, True]


def test_zeroed_is_a_copy() -> None:
    for x in (torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3).to(memory_format=torch.channels_last)):
        before, found = x.clone(), zeroed(x, 4, [1, 3])
        assert torch.equal(x, before)
        for c, n in itertools.product(range(4), range(2)):
            assert torch.equal(found[n, c], torch.zeros(3, 3) if c in (1, 3) else x[n, c])
    features = zeroed(torch.ones(1, 6), 3, [1])
    assert features.tolist() == [[1, 1, 0, 0, 1, 1]], "a block of features for each channel"
