"""Optimizers that a method was not given."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW
from torch.optim.optimizer import _global_optimizer_pre_hooks

import filtersmith as fs


@pytest.mark.parametrize("method", ["RePr", "Prune"])
def test_what_is_left_out_moves_in_no_optimizer(method: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 3))
    given = SGD([p for p in net.parameters() if p.ndim > 1], 0.1)
    other = AdamW([p for p in net.parameters() if p.ndim == 1], 0.01, weight_decay=0.1)
    made: Any = fs.RePr(net, given, s1=1, s2=1, cycles=1) if method == "RePr" else fs.Prune(net, given, after=1)

    def train() -> None:
        for _ in range(2):
            net(torch.randn(4, 3, 8, 8)).square().mean().backward()
            given.step()
            other.step()

    train()
    hooks = len(_global_optimizer_pre_hooks)
    made.step()
    gone, before = made.pruned["1"], {name: p.detach().clone() for name, p in net.named_parameters()}
    train()
    for name in ("1.weight", "1.bias", "2.weight", "2.bias"):
        now = net.get_parameter(name)
        assert torch.equal(now[gone], before[name][gone]), name
        assert not torch.equal(now[~gone], before[name][~gone]), name
    made.step()
    assert not other.state[net[2].weight]["exp_avg"][gone].any()
    made.finish()
    assert len(_global_optimizer_pre_hooks) == hooks, "nothing is watched any more"
    assert not other._optimizer_step_pre_hooks


def test_where_the_given_optimizers_have_all_nothing_is_watched() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 2, 3))
    hooks = len(_global_optimizer_pre_hooks)
    fs.RePr(net, [SGD([p], 0.1) for p in net.parameters()], s1=1, s2=1, cycles=1).step()
    assert len(_global_optimizer_pre_hooks) == hooks
