"""Calls that are alike are tried once; modules on copies, in both modes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from reference.channel_graphs import conv, head
from reference.masked import verdict
from torch import Tensor, fx, nn

from filtersmith.graph import answers
from filtersmith.graph.answers import Answers, never_zero
from filtersmith.graph.channels import channel_graph
from filtersmith.graph.flow import Flow, Run


def test_calls_that_are_alike_are_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    probe = answers.probe

    def counted(function: Any, flows: Any) -> Any:
        asked.append(flows)
        return probe(function, flows)

    class Many(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers, self.head = nn.ModuleList([conv(3), *(conv(4) for _ in range(5))]), head()

        def forward(self, x: Tensor) -> Any:
            for layer in self.layers:
                x = torch.clamp(torch.special.expit(layer(x)), max=0.9)
            return self.head(x)

    monkeypatch.setattr(answers, "probe", counted)
    graph = channel_graph(Many())
    assert graph.reasons == {}
    assert len(asked) == 12  # the flows name their producers


def called(*arguments: Any) -> fx.Node:
    graph = fx.Graph()
    return graph.call_function(torch.clamp, (graph.placeholder("x"), *arguments))


def test_only_channels_and_constants_are_tried() -> None:
    node = called(0.5)
    flow = Flow((Run("a", 4),), 2)
    (image,) = node.all_input_nodes
    assert Answers().channels(node, None, {image: flow}) is not None
    assert Answers().channels(node, None, {image: None}) is None
    number = node.graph.placeholder("number")
    of_two = node.graph.call_function(torch.clamp, (image, number))
    assert Answers().channels(of_two, None, {image: flow, number: None}) is None
    assert not Answers().keeps_zero(of_two, None)
    assert not Answers().keeps_zero(called(0.5), None)
    assert Answers().keeps_zero(called(-0.5), None)


def test_modules_are_tried_on_copies_in_both_modes() -> None:
    assert verdict(lambda s, y: s.shuffle(y), shuffle=nn.ChannelShuffle(2)) == "zeros"
    assert verdict(lambda s, y: s.soft(y), soft=nn.Softmax2d()) == "zeros"
    assert verdict(lambda s, y: s.m(s.soft(y)), soft=nn.Softmax(2)) == "go"
    assert verdict(lambda s, y: s.shrink(y.flatten(2)), shrink=nn.GLU(2)) == "go"


def test_where_nothing_is_zero() -> None:
    moved = frozenset({"a"})
    spoiled = frozenset({("a", "cos makes")})
    flow = Flow((Run("a", 4),), 2)
    assert never_zero(flow._replace(moved=moved, spoiled=spoiled))
    assert not never_zero(flow._replace(moved=moved))
    assert not never_zero(flow._replace(spoiled=spoiled))
