"""Channels that stand last: linear layers that are 1x1 convolutions, and what stands between two of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from reference.calls import Calls
from reference.channel_graphs import conv, full, head, reads, reads_mixed, stays
from reference.pointwise import Block
from torch import Tensor, nn
from torch.nn import functional as F

import filtersmith as fs
from filtersmith.graph.channels import channel_graph


class OwnLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.abs())


BETWEEN: dict[str, Callable[..., Any]] = {
    "functions": lambda s, y: F.dropout(F.softplus(y), 0.1, s.training).contiguous(),
    "identity": lambda s, y: nn.Identity()(y),
}


@pytest.mark.parametrize("name", BETWEEN)
def test_linear_layers_that_are_convolutions(name: str) -> None:
    graph = channel_graph(Block(True, BETWEEN[name]))
    assert list(graph.convolutions) == ["stem", "depthwise", "wide", "narrow"]
    assert graph.producers["wide"].filters == 12
    assert graph.producers["wide"].end == "drop"
    assert reads(graph, "narrow", "wide")
    assert set(graph.reasons) == {"stem", "depthwise", "narrow"}
    assert "no [" in str(graph)


@pytest.mark.parametrize("norm", [nn.RMSNorm(6), nn.Identity(), nn.LayerNorm(6).requires_grad_(False)], ids=str)
def test_what_may_stand_before_them(norm: nn.Module) -> None:
    network = Block(True)
    network.norm = norm
    assert "wide" not in channel_graph(network).reasons


STAYS: dict[str, tuple[Callable[..., Any], str]] = {
    "a global response norm": (lambda s, y: y * y.norm(dim=(1, 2), keepdim=True), "they enter"),
    "a layer norm": (lambda s, y: F.layer_norm(y, (12,)), "stand last, where they enter layer_norm"),
    "a sum": (lambda s, y: y + s.other(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1), "stand last, where they enter"),
    "a pool that takes them for rows": (lambda s, y: F.max_pool2d(y, 1), "they enter max_pool2d"),
    "some of them": (lambda s, y: y[..., :12], "stand last, where they enter getitem"),
    "its width": (lambda s, y: y.view(-1, y.shape[-1]).view_as(y), "they enter"),
    "whole channels dropped": (lambda s, y: F.dropout2d(y, 0.1), "they enter"),
    "its weight": (lambda s, y: y + s.wide.weight.mean(), "its parameters are read by themselves"),
}


@pytest.mark.parametrize("name", STAYS)
def test_what_needs_all_of_them(name: str) -> None:
    """No zeros are put in where channels stand last."""
    between, why = STAYS[name]
    network = Block(True, between)
    network.other = nn.Conv2d(12, 12, 1)
    graph = channel_graph(network)
    assert "wide" in stays(graph)
    assert why in graph.reasons["wide"]
    assert "wide" not in full(graph)
    assert "narrow" not in graph.sites or reads_mixed(graph, "narrow")


ORDINARY: dict[str, Callable[..., Any]] = {
    "features": lambda s, y: s.two(F.relu(s.one(y.mean((2, 3)))))[:, :, None, None],
    "tokens": lambda s, y: s.two(s.one(y.flatten(2).transpose(1, 2))).transpose(1, 2).unflatten(2, (6, 6)),
    "rows of pixels": lambda s, y: s.rows(y)[..., :6],
    "called twice": lambda s, y: s.square(s.square(y.permute(0, 2, 3, 1))).permute(0, 3, 1, 2),
    "a class of one's own": lambda s, y: s.own(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
    "hooked": lambda s, y: s.hooked(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
    "other order": lambda s, y: s.square(y.permute(0, 3, 2, 1)).permute(0, 3, 1, 2),
}
IN_ONE_MODE: dict[str, Callable[..., Any]] = {
    "in training": lambda s, y: s.square(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) if s.training else y,
    "of features in evaluation": lambda s, y: (
        s.two(s.one(y.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        if s.training
        else s.two(s.one(y.mean((2, 3))))[..., None, None].expand_as(y)
    ),
}


def with_linear_layers(between: Callable[..., Any]) -> Calls:
    square, own, hooked = nn.Linear(4, 4), OwnLinear(4, 4), nn.Linear(4, 4)
    hooked.register_forward_hook(lambda module, given, y: y.abs())
    return Calls(
        lambda s, x: s.head(F.relu(between(s, s.first(x)))),
        first=conv(3),
        head=head(),
        square=square,
        own=own,
        hooked=hooked,
        one=nn.Linear(4, 6),
        two=nn.Linear(6, 4),
        rows=nn.Linear(6, 6),
    )


@pytest.mark.parametrize("name", ORDINARY)
def test_linear_layers_that_are_none(name: str) -> None:
    graph = channel_graph(with_linear_layers(ORDINARY[name]))
    assert not graph.linear
    assert list(graph.producers) == list(graph.convolutions) == ["first"]
    assert str(graph)


@pytest.mark.parametrize("name", IN_ONE_MODE)
def test_those_that_are_convolutions_in_one_mode_stay_whole(name: str) -> None:
    network = with_linear_layers(IN_ONE_MODE[name])
    graph = channel_graph(network)
    assert graph.linear
    assert graph.linear <= graph.reasons.keys()
    assert graph.linear <= graph.consumers.keys()
    assert str(graph)
    assert graph.linear <= fs.why_not(network, "prune").keys()


@pytest.mark.parametrize(
    ("layer", "before"),
    [
        (conv(6, 6), lambda y: y.permute(0, 2, 3, 1)),
        (nn.Conv2d(6, 6, 1, groups=6), lambda y: y.permute(0, 2, 3, 1)),
        (nn.ConvTranspose2d(6, 6, 1), lambda y: y.permute(0, 2, 3, 1)),
        (nn.Conv1d(36, 6, 1), lambda y: y.flatten(2).permute(0, 2, 1)),
        (nn.BatchNorm2d(6), lambda y: y.permute(0, 2, 3, 1)),
    ],
    ids=["convolution", "depthwise", "transposed", "over tokens", "batch norm"],
)
def test_what_takes_something_else_for_channels(layer: nn.Module, before: Callable[..., Any]) -> None:
    """On an image of 6 by 6 pixels with 6 channels."""
    network = Calls(lambda s, x: s.layer(before(s.first(x))), first=conv(3, 6), layer=layer)
    graph = channel_graph(network)
    assert "layer" not in graph.sites
    assert "first" in full(graph) or "first" in graph.reasons
    if "layer" in graph.producers:
        assert graph.reasons["layer"] == "its outputs are the network's"
    layer.register_forward_hook(lambda module, given, y: y + 1)
    graph = channel_graph(network)
    assert "layer" not in graph.producers or "hook" in graph.reasons["layer"]


def test_a_layer_norm_that_goes_there_and_back_keeps_the_number_of_channels() -> None:
    norm = nn.LayerNorm(4)
    network = Calls(
        lambda s, x: s.head(s.last(torch.cat([s.back(s.first(x)), s.second(x)], 1))),
        first=conv(3),
        second=conv(3),
        last=conv(8),
        head=head(),
        norm=norm,
    )
    network.back = lambda y: norm(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    graph = channel_graph(network)
    assert "first" in full(graph)
    assert [run.producer for run in graph.sites["last"].inputs] == [None, "second"]
