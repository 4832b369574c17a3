"""Scratch copies: as the real optimizer, and apart from it."""

from __future__ import annotations

import copy

import pytest
import torch
from reference.nets import assert_same
from reference.optimizers import Counting, SlowWeights, kernels, steps
from torch import nn
from torch.optim import Adam
from torch.optim.lr_scheduler import StepLR

from filtersmith.optim.apart import apart
from filtersmith.optim.scratch import LEAST_RATE, Scratch, Way, duplicate, probing_weights


@pytest.mark.parametrize("whole", [False, True])
def test_it_steps_as_the_real_one_does_and_leaves_it_alone(whole: bool) -> None:
    network = kernels()
    optimizer = SlowWeights(Counting(network.parameters(), lr=0.1))
    StepLR(optimizer.base_optimizer, 1)  # puts something in the place of the inner one's step
    optimizer.base_optimizer.register_step_pre_hook(lambda *_: pytest.fail("a hook of the real one"))
    weight, twin = network[0].weight, kernels()
    fresh = SlowWeights(Counting(twin.parameters(), lr=0.1))
    chain = optimizer, optimizer.base_optimizer
    before = copy.deepcopy(
        (network.state_dict(), optimizer.state_dict(), optimizer.base_optimizer.generator.get_state())
    )
    scratch = Scratch(chain, weight, weight, Way(whole=whole))
    assert scratch.chain[0].param_groups is scratch.chain[1].param_groups, "wrappers share them"
    assert scratch.chain[0].base_optimizer is scratch.chain[1]
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        gradient = torch.randn(weight.shape, generator=generator)
        scratch.step(gradient)
        for p in twin.parameters():
            p.grad = torch.zeros_like(p)
        twin[0].weight.grad = gradient + 0.5 * twin[0].weight.detach()
        fresh.step()
        assert torch.equal(scratch.parameter, twin[0].weight)
    after = network.state_dict(), optimizer.state_dict(), optimizer.base_optimizer.generator.get_state()
    assert_same(after, before)
    assert weight.grad is None
    assert (optimizer.taken, optimizer.base_optimizer.step_count, scratch.chain[0].taken) == (0, 0, 4)


def test_options_with_which_something_is_seen() -> None:
    network = kernels()
    optimizer = Adam([{"params": network[0].parameters(), "lr": torch.tensor(0.0)}], weight_decay=0.1)
    chain, weight = (optimizer,), network[0].weight
    for learn, rate in ((True, LEAST_RATE), (False, 0.0)):
        group = Scratch(chain, weight, weight, Way(), learn).chain[0].param_groups[0]
        assert float(group["lr"]) == pytest.approx(rate)
        assert group["weight_decay"] == 0
    assert float(optimizer.param_groups[0]["lr"]) == 0.0
    assert optimizer.param_groups[0]["weight_decay"] == 0.1


def test_what_they_start_with() -> None:
    network = kernels()
    optimizer = Adam(network.parameters())
    steps(network, optimizer, 2)
    scratch = Scratch((optimizer,), network[0].weight, network[0].weight, Way())
    with apart((optimizer,)):
        scratch.step(torch.ones_like(network[0].weight))
    assert {path: value.unique().tolist() for path, value in scratch.first().items()} == {
        (0, "step"): [0],
        (0, "exp_avg"): [0],
        (0, "exp_avg_sq"): [0],
    }


def test_duplicate() -> None:
    kept, generator = object(), torch.Generator().manual_seed(3)
    value = {"a": [torch.ones(2)], "kept": kept, "g": generator, "cannot": (n for n in range(3))}
    value["again"] = value["a"]
    made = duplicate(value, {id(kept): "other"})
    made["a"][0].add_(1)
    assert value["a"][0].tolist() == [1, 1]
    assert made["again"] is made["a"]
    assert made["kept"] == "other"
    assert made["cannot"] is value["cannot"]
    torch.rand(1, generator=made["g"])
    assert torch.equal(generator.get_state(), torch.Generator().manual_seed(3).get_state())


def test_probing_weights_lie_as_the_parameter_does() -> None:
    weight = nn.Parameter(torch.ones(4, 3, 2, 2).to(memory_format=torch.channels_last))
    made = probing_weights(weight)
    assert (made.shape, made.stride(), made.dtype) == (weight.shape, weight.stride(), weight.dtype)
    assert not made.requires_grad
