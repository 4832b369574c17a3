"""Channels that are taken apart: which calls do so, and where their parts begin and end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from reference.calls import Calls
from reference.channel_graphs import conv, head, reads_mixed, then_read
from torch import nn

from filtersmith.graph.channels import channel_graph
from filtersmith.graph.flow import Run

PARTS: dict[str, tuple[Callable[..., Any], list[Run]]] = {
    "chunk": (lambda y: y.chunk(3, 1)[1], [Run("first", 2, first=2)]),
    "last chunk": (lambda y: y.chunk(4, 1)[-1], [Run("first", 2, first=4)]),
    "split": (lambda y: torch.split(y, [1, 4, 1], dim=1)[1], [Run("first", 4, first=1)]),
    "sizes": (lambda y: y.split(4, dim=1)[1], [Run("first", 2, first=4)]),
    "slice": (lambda y: y[:, 1:-1], [Run("first", 4, first=1)]),
    "slice of a slice": (lambda y: y[:, 1:][:, 2:4, ::2], [Run("first", 2, first=3)]),
    "of several": (
        lambda y: torch.cat([y, y[:, 4:]], 1)[:, 5:7],
        [Run("first", 1, first=5), Run("first", 1, first=4)],
    ),
}


@pytest.mark.parametrize("name", PARTS)
def test_parts(name: str) -> None:
    function, inputs = PARTS[name]
    filters = sum(run.filters for run in inputs)
    network = Calls(
        lambda s, x: s.head(s.last(function(s.first(x)))), first=conv(3, 6), last=conv(filters), head=head()
    )
    graph = channel_graph(network)
    assert list(graph.sites["last"].inputs) == inputs
    assert graph.producers["first"].full_width_reason == "their places are written into the code"
    assert not graph.reasons


UNKNOWN: dict[str, Callable[..., Any]] = {
    "every other one": lambda s, y: torch.cat([y[:, ::2], y[:, 1::2]], 1),
    "reversed": lambda s, y: torch.cat(list(reversed(y.chunk(2, 1)[:2])), 1),
    "positions": lambda s, y: torch.cat(y.split(3, 2), 2),
    "examples": lambda s, y: torch.cat(y.split(1, 0), 0),
    "features": lambda s, y: y.flatten(1)[:, : 4 * 36].view(y.shape[0], 4, 6, 6),
    "computed": lambda s, y: torch.cat([y[:, : y.shape[1] // 2], y[:, y.shape[1] // 2 :]], 1),
    "half of a filter's channels": lambda s, y: s.twice(y)[:, 1:5],
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_followed(name: str) -> None:
    network = then_read(UNKNOWN[name], twice=nn.Conv2d(4, 8, 1, groups=4))
    graph = channel_graph(network)
    assert "last" not in graph.sites or reads_mixed(graph, "last")
    assert "first" in graph.reasons or graph.producers["first"].full_width_reason
