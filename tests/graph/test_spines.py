"""The row of modules that the channels of one convolution pass alone, and the activation in it."""

from __future__ import annotations

import pytest
from reference.calls import Calls
from reference.channel_graphs import activations, conv, ends, full, head, reads, stays, then_read
from torch import nn

from filtersmith.graph.channels import channel_graph


@pytest.mark.parametrize(
    "middle",
    [nn.GroupNorm(2, 4), nn.PReLU(4), nn.InstanceNorm2d(4, affine=True), nn.LocalResponseNorm(2)],
    ids=lambda module: type(module).__name__,
)
def test_parameters_and_statistics_of_several_channels(middle: nn.Module) -> None:
    graph = channel_graph(nn.Sequential(conv(3), middle, nn.ReLU(), conv(4), head()))
    assert not stays(graph) | full(graph).keys()
    assert ends(graph)["0"] == "2"
    assert activations(graph)["0"] == ("1" if isinstance(middle, nn.PReLU) else "2")
    assert (graph.sites["1"].role, graph.sites["1"].within) == ("per-channel", "0")


def test_an_activation_used_in_several_places() -> None:
    relu = nn.ReLU()
    network = nn.Sequential(conv(3), nn.BatchNorm2d(4), relu, conv(4), nn.BatchNorm2d(4), relu, head())
    graph = channel_graph(network)
    assert not stays(graph) | full(graph).keys()
    assert ends(graph) == {"0": "1", "3": "4"}
    assert activations(graph) == {"0": "2", "3": "2"}
    assert reads(graph, "6.2", "3")


def test_a_pool_that_also_tells_where() -> None:
    pool = nn.MaxPool2d(2, return_indices=True)
    network = Calls(lambda s, x: s.head(s.last(s.pool(s.first(x))[0])), first=conv(3), pool=pool, last=conv(4))
    network.head = head()
    graph = channel_graph(network)
    assert ends(graph)["first"] == "first"
    assert full(graph)["first"] == "they enter pool"


def test_what_moves_zeros_is_no_harm_where_it_ends_the_row() -> None:
    """Zeros are put in behind it."""
    network = then_read(lambda s, y: s.gate(s.bn(y)) + s.other(y).relu(), other=conv(4))
    network.bn, network.gate = nn.BatchNorm2d(4), nn.Sigmoid()
    assert stays(channel_graph(network)) == {"first"}, "others read what it makes, too"
    network.run = lambda s, x: s.head(s.last(s.gate(s.bn(s.first(x))) + s.other(x)))
    network.other = conv(3)
    graph = channel_graph(network)
    assert not stays(graph)
    assert (ends(graph)["first"], activations(graph)["first"]) == ("gate", "gate")
    assert "first" in full(graph)
