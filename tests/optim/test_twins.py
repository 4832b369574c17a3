"""Twins of optimizers, by their own constructors."""

from __future__ import annotations

import torch
from reference.optimizers import MadeInTheConstructor, SlowWeights, Unknowable, kernels, steps
from torch.optim import SGD, Adagrad

from filtersmith.optim.twins import construct, remake, stand_ins, twins


def test_a_twin_has_the_options_that_are_shown() -> None:
    network = kernels()
    optimizer = MadeInTheConstructor(network.parameters(), lr=0.3, beta=0.7)
    real: dict[torch.Tensor, torch.Tensor] = {}
    twin = construct(optimizer, stand_ins(optimizer.param_groups, real))
    assert (twin.beta, twin.param_groups[0]["lr"]) == (0.7, 0.3)
    assert list(real.values()) == [*network.parameters()]
    assert all(torch.equal(a, b) and a is not b for a, b in real.items())
    assert construct(Unknowable(network.parameters(), 1.0), stand_ins(optimizer.param_groups, {})) is None


def test_twins_of_a_chain_for_all_or_for_a_few() -> None:
    network = kernels()
    base = SGD([{"params": [*module.parameters()], "lr": 0.1 / (1 + n)} for n, module in enumerate(network)])
    base.param_groups[0]["seen"] = 3
    slow = SlowWeights(base)
    slow.taken = 2
    for whole in (True, False):
        of_slow, of_base = twins((slow, base), {"seen"}, whole)
        assert of_slow.made.base_optimizer is of_base.made
        assert of_slow.made.taken == 0
        assert [group["lr"] for group in of_base.made.param_groups] == [0.1 / (1 + n) for n in range(4)]
        assert "seen" not in of_base.made.param_groups[0]
        assert len(of_base.real) == (8 if whole else 4)


def test_state_of_the_constructor_is_made_again() -> None:
    network = kernels()
    optimizer = Adagrad(network.parameters(), initial_accumulator_value=0.5)
    steps(network, optimizer, 2)
    weight, other = network[0].weight, optimizer.state[network[1].weight]["sum"]
    optimizer.state.pop(weight)
    assert remake((optimizer,), weight)
    assert optimizer.state[weight]["sum"].unique().tolist() == [0.5]
    assert optimizer.state[network[1].weight]["sum"] is other
    anchored = MadeInTheConstructor(network.parameters())
    steps(network, anchored, 2)
    anchored.state.clear()
    assert remake((anchored,))
    assert all(torch.equal(anchored.state[p]["start"], p) for p in network.parameters())
    assert not remake((Unknowable(network.parameters(), 1.0),))
