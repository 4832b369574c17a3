"""What tests do with sub-networks: leave every other filter out, take a step, compare what is left."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from reference.subnet import Net, loss_of
from torch import Tensor, nn

from filtersmith.graph.channels import ChannelGraph, channel_graph
from filtersmith.pruning.plan import plan
from filtersmith.pruning.subnetwork import leave_out

TIGHT = {"rtol": 1e-9, "atol": 1e-11}


def every_other(net: Net) -> dict[str, Tensor]:
    return {name: torch.arange(filters) % 2 == 1 for name, filters in net.layers.items()}


def sliced(net: Net, dropped: Mapping[str, Tensor] | None = None) -> ChannelGraph:
    """Leave filters out, by default every other one; the network's graph."""
    graph = channel_graph(net)
    leave_out(plan(graph, every_other(net) if dropped is None else dropped))
    return graph


def step(net: nn.Module, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The output, and the gradient of each parameter."""
    net.zero_grad()
    output = net(images)
    loss_of(output).backward()
    return output.detach(), {name: p.grad for name, p in net.named_parameters() if p.grad is not None}


def assert_close_elsewhere(
    ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], gone: Mapping[str, Tensor]
) -> None:
    assert set(ours) == set(theirs)
    for name, tensor in ours.items():
        kept = ~gone[name]
        torch.testing.assert_close(tensor[kept], theirs[name][kept], msg=lambda m, name=name: f"{name}: {m}", **TIGHT)


def assert_restored(net: nn.Module, like: nn.Module) -> None:
    """Every module has its own class again, and nothing that it had not."""
    for ours, theirs in zip(net.modules(), like.modules(), strict=True):
        assert type(ours) is type(theirs)
        assert list(vars(ours)) == list(vars(theirs))
