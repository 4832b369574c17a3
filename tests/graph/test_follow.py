"""Channels followed through both modes of a network, and through parts of one that cannot be traced."""

from __future__ import annotations

from typing import Any

from reference.calls import Calls
from reference.channel_graphs import activations, conv, ends, full, head, reads, stays
from torch import Tensor, nn

from filtersmith.graph.channels import channel_graph


def test_a_convolution_called_twice() -> None:
    network = nn.Sequential(conv(3), nn.ReLU(), (twice := conv(4)), nn.ReLU(), twice, conv(4), head())
    graph = channel_graph(network)
    assert graph.reasons == {"2": "it is called several times"}
    assert activations(graph)["2"] is None, "there are two"
    assert full(graph)["0"] == "they enter 2"


def test_an_auxiliary_head_of_training() -> None:
    def forward(s: Any, x: Tensor) -> Any:
        y = s.one(x)
        z = s.head(s.two(y))
        return (z, s.aux_head(s.aux(y))) if s.training else z

    modules = {"one": conv(3), "two": conv(4), "head": head(), "aux": conv(4), "aux_head": head()}
    graph = channel_graph(Calls(forward, **modules))
    assert list(graph.producers) == ["one", "two", "aux"]
    assert not stays(graph) | full(graph).keys()
    assert reads(graph, "aux", "one")
    assert activations(graph)["aux"] is None
    # A sum that only training has needs all channels all the same.
    network = Calls(
        lambda s, x: s.head(
            s.two(y + y.mean(1, keepdim=True) if s.training else y) if (y := s.one(x)) is not None else y
        ),
        **modules,
    )
    assert list(full(channel_graph(network))) == ["one"]


def test_other_channels_in_training_than_in_evaluation() -> None:
    def forward(s: Any, x: Tensor) -> Any:
        return s.head(s.last(s.one(x) if s.training else s.two(x)))

    graph = channel_graph(Calls(forward, one=conv(3), two=conv(3), last=conv(4), head=head()))
    assert stays(graph) == {"one", "two"}
    assert "in training than in evaluation" in graph.reasons["one"]


def test_parts_of_a_network_that_cannot_be_traced() -> None:
    def forward(s: Any, x: Tensor) -> Any:
        y = s.stem(x)
        if y.sum() > 0:
            y = s.body(y)
        return s.head(s.own(y))

    body = nn.Sequential(conv(4), nn.BatchNorm2d(4), nn.ReLU(), conv(4), nn.ReLU())
    network = Calls(forward, stem=nn.Sequential(conv(3), nn.ReLU()), body=body, own=conv(4), head=head())
    graph = channel_graph(network)
    assert list(graph.producers) == ["stem.0", "body.0", "body.3"]
    assert stays(graph) == {"stem.0", "body.3"}
    assert "leave the part of the network" in graph.reasons["body.3"]
    assert graph.reasons["own"] == "it is called by code that torch.fx cannot trace"
    assert reads(graph, "body.3", "body.0")
    assert ends(graph)["body.0"] == "body.2"
    assert activations(graph)["body.0"] == "2"
    number, _ = graph.producers["body.0"].activation or (-1, None)
    assert graph.parts[number].prefix == "body."


def test_what_is_kept_for_another_call_has_all_of_its_channels() -> None:
    def forward(s: Any, x: Tensor) -> Any:
        x = s.one(x)
        x = x if s.before is None else x + s.before
        s.before = x.detach()
        return s.head(s.two(x))

    network = Calls(forward, one=conv(3), two=conv(4), head=head())
    network.before = None
    assert full(channel_graph(network)) == {"one": "they are kept for another call"}
    assert network.before is None


def test_what_is_brought_to_the_size_of_another() -> None:
    """The lateral of a feature pyramid is a projection, though the other side asks for its height and width."""

    def forward(s: Any, x: Tensor) -> Any:
        y = s.low(x)
        side = s.lateral(y)
        top = s.top(s.high(y))
        return s.head(side + nn.functional.interpolate(top, size=side.shape[-2:]))

    one, other = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
    modules = {"low": conv(3), "high": conv(4), "top": one, "lateral": other, "head": head()}
    graph = channel_graph(Calls(forward, **modules))
    assert graph.reasons.get("lateral") == "it is the 1x1 projection of a shortcut"
