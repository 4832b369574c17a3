"""What is frozen stays bit for bit, and what is computed stays right."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from reference.calls import Calls
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD

import filtersmith as fs
from filtersmith.graph.channels import channel_graph
from filtersmith.pruning.frozen import held_by_frozen


def conv(inputs: int = 8, outputs: int = 8, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options)


def plain(between: Any = F.relu) -> Calls:
    net = Calls(lambda s, x: s.c(between(s.n(s.b(s.a(x))))), a=conv(3), b=conv(), n=nn.BatchNorm2d(8), c=conv(8, 2))
    return net.double()


def residual() -> Calls:
    def forward(s: Any, x: Tensor) -> Tensor:
        x = s.a(x)
        return s.c(x + s.n(s.b(x)))  # type: ignore[no-any-return]

    return Calls(forward, a=conv(3), b=conv(), n=nn.BatchNorm2d(8), c=conv(8, 2)).double()


CASES = {  # network, what is frozen, why b stays whole
    "a reader of zeros": (plain, "c", None),
    "a norm whose reader is trained": (plain, "n", None),
    "a bias whose reader is trained": (plain, "b.bias", None),
    "a reader of something else": (
        lambda: plain(torch.sigmoid),
        "c",
        "the weight of c, which reads its channels, is frozen, and",
    ),
    "a norm and its reader": (plain, "n c", "the weight of c, which reads its channels, is frozen, and n is frozen"),
    "a norm before a sum": (residual, "n", "n is frozen, so that zeros would not be zeros where they are added"),
}


def frozen(name: str) -> tuple[Calls, dict[str, Tensor], SGD]:
    torch.manual_seed(0)
    net = CASES[name][0]()
    for tensor in (*net.n.parameters(), net.n.running_mean):
        nn.init.uniform_(tensor, 0.5, 1.5)
    for part in CASES[name][1].split():
        for key, parameter in net.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and not key.startswith(part))
    kept = {k: p.detach().clone() for k, p in net.named_parameters() if not p.requires_grad}
    return net, kept, SGD([p for p in net.parameters() if p.requires_grad], 0.1, momentum=0.9)


@pytest.mark.parametrize("name", CASES)
def test_pruning_writes_into_nothing_that_is_frozen(name: str) -> None:
    net, kept, optimizer = frozen(name)
    images, reason = torch.randn(4, 3, 6, 6, dtype=torch.float64), CASES[name][2]
    found = held_by_frozen(channel_graph(net)).get("b", "")
    assert found.startswith(reason) if reason else not found
    if reason is not None:
        with pytest.raises(ValueError, match=rf"may be left out \(b: {reason}"):
            fs.Prune(net, optimizer, after=1)
        return
    pruning = fs.Prune(net, optimizer, after=1)
    pruning.step()
    for _ in range(2):
        net(images).square().mean().backward()
        optimizer.step()
    net.eval()
    output, expected = net(images), copy.deepcopy(net)
    pruning.finish()
    torch.testing.assert_close(net(images), output)
    torch.testing.assert_close(expected(images), output)
    assert pruning.pruned["b"].sum() == 4
    assert all(torch.equal(net.get_parameter(key), value) for key, value in kept.items())


@pytest.mark.parametrize("name", CASES)
def test_filters_come_back_without_a_write_into_what_is_frozen(name: str) -> None:
    net, kept, optimizer = frozen(name)
    cycle = fs.RePr(net, optimizer, s1=1, s2=1, cycles=1, reinit_next="small")
    before = copy.deepcopy(net.state_dict())
    assert [cycle.step(), cycle.step()] == ["pruned", "restored"]
    assert all(torch.equal(net.get_parameter(key), value) for key, value in kept.items())
    assert torch.equal(net.n.running_mean, before["n.running_mean"]) == ("n.weight" in kept)
    assert not torch.equal(net.b.weight, before["b.weight"])


def test_a_layer_that_is_frozen_later_stays() -> None:
    net, _, optimizer = frozen("a reader of zeros")
    pruning = fs.Prune(net, optimizer, after=1)
    net.n.requires_grad_(False)
    with pytest.warns(UserWarning, match="nothing is pruned"):
        pruning.step()
    assert pruning.left_whole["b"] == "the weight of c, which reads its channels, is frozen, and n is frozen"
