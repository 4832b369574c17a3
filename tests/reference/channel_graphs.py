"""What tests ask of a channel graph, and networks made of a few calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reference.calls import Calls
from torch import nn

from filtersmith.graph.channels import ChannelGraph
from filtersmith.graph.flow import Run, producers_of

FILTERS = 4


def conv(inputs: int, filters: int = FILTERS, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, filters, 3, padding=1, **options)


def head(filters: int = FILTERS) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(filters, 2))


def then_read(forward: Callable[..., Any], filters: int = FILTERS, **modules: nn.Module) -> Calls:
    """``first``, a function of its output, and a convolution ``last`` that reads the result."""
    return Calls(
        lambda s, x: s.head(s.last(forward(s, s.first(x)))), first=conv(3), last=conv(filters), head=head(), **modules
    )


def stays(graph: ChannelGraph) -> set[str]:
    """The producers whose filters cannot be left out."""
    return {name for name in graph.producers if name in graph.reasons}


def full(graph: ChannelGraph) -> dict[str, str]:
    """The producers whose channels all have to be there, and why."""
    reasons = {name: producer.full_width_reason for name, producer in graph.producers.items()}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def reads(graph: ChannelGraph, site: str, *names: str) -> bool:
    """Whether all filters of the named convolutions, one after the other, are what a module reads."""
    return graph.sites[site].inputs == tuple(Run(name, graph.producers[name].filters) for name in names)


def reads_mixed(graph: ChannelGraph, site: str) -> bool:
    """Whether no filter alone makes any of the channels that a module reads."""
    return not producers_of(graph.sites[site].inputs)


def ends(graph: ChannelGraph) -> dict[str, str]:
    """Producer -> the last module that its channels alone pass."""
    return {name: producer.end for name, producer in graph.producers.items()}


def activations(graph: ChannelGraph) -> dict[str, str | None]:
    """Producer -> the module or function behind which its activation stands."""
    found: dict[str, str | None] = {}
    for name, producer in graph.producers.items():
        found[name] = None
        if producer.activation is not None:
            number, node = producer.activation
            assert node in graph.parts[number].graph.nodes
            found[name] = str(node.target) if isinstance(node.target, str) else node.target.__name__
    return found
