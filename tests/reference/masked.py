"""Filters left out the slow way: the whole network, with a mask written by hand wherever their channels are zero."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from reference.calls import Calls
from torch import Tensor, nn

from filtersmith.graph.channels import channel_graph
from filtersmith.pruning.masks import by_zeros, without_filters
from filtersmith.pruning.plan import fill, plan
from filtersmith.pruning.subnetwork import leave_out

FILTERS = 6
GONE = torch.tensor([False, True, True, False, True, False])
IMAGES = torch.randn(2, 3, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def network_of(forward: Callable[..., Any], **modules: Any) -> Calls:
    """``first``, a function of its output, and a layer ``last`` that reads it; ``net.m`` masks nothing."""
    torch.manual_seed(1)
    first = modules.pop("first", None) or nn.Conv2d(3, FILTERS, 3, padding=1)
    network = Calls(lambda s, x: forward(s, s.m(s.first(x))), first=first, m=lambda y: y, **modules)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.5)
    network = network.double().eval()
    width = network(IMAGES)
    last: nn.Module = nn.Linear(width.shape[-1], 2)
    if width.ndim > 2:
        last = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[width.ndim - 3](width.shape[1], 2, 1)
    network.run = lambda s, x: s.last(forward(s, s.m(s.first(x))))
    network.last = last.double()
    return network


def verdict(forward: Callable[..., Any], **modules: Any) -> str:
    """Why no filter of ``first`` may go; else, where the network without some is the masked one, how they go.

    ``"go"``, or ``"zeros"`` where zeros take their place; ``", not by zeros"`` where parameters of zeros differ.
    """
    network = network_of(forward, **modules)
    graph = channel_graph(network)
    if "first" in graph.reasons:
        return graph.reasons["first"]
    slow = copy.deepcopy(network)
    slow.m = _masked
    expected = slow(IMAGES).detach()
    smaller = plan(graph, {"first": GONE})
    reasons, alone = by_zeros(network, graph)
    unfit = "first" in reasons
    if not unfit:
        zeros, filled = copy.deepcopy(network), plan(graph, {"first": GONE}, alone)
        _fill(zeros, network, filled)
        assert_same(zeros(IMAGES), expected)
        assert without_filters(filled)
    leave_out(smaller)
    assert_same(network(IMAGES), expected)
    way = "go" if graph.producers["first"].full_width_reason is None else "zeros"
    return f"{way}, not by zeros" if unfit else way


def _masked(y: Tensor) -> Tensor:
    """Zeros, and not what they may have become: 0 times NaN is none."""
    if y.ndim == 2:
        gone = GONE.repeat_interleave(y.shape[1] // FILTERS)
        return y.masked_fill(gone, 0)
    return y.masked_fill(GONE.view(-1, *[1] * (y.ndim - 2)), 0)


def _fill(zeros: nn.Module, network: nn.Module, smaller: Any) -> None:
    twins = dict(zip(network.modules(), zeros.modules(), strict=True))
    for one in smaller.modules.values():
        fill(type(one)(**{**vars(one), "module": twins[one.module]}))


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    assert theirs.isfinite().all()
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)
