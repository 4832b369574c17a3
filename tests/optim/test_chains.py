"""Reading optimizers and their wrappers."""

from __future__ import annotations

from typing import Any

import torch
from reference.optimizers import SlowWeights, kernels, steps
from torch.optim import SGD, Adam

from filtersmith.optim.chains import chain_of, entries, groups_with, is_innermost, name_of, owns, stores, walk


class Trainer:
    """A trainer's wrapper: an optimizer, and all the rest."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer, self.strategy = optimizer, object()

    def step(self) -> None:
        self.optimizer.step()


class Plain(Trainer):
    """A wrapper with numbers of its own."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer, self.every = optimizer, 3


def test_what_a_chain_is() -> None:
    network = kernels()
    base = SGD(network.parameters(), lr=0.1, momentum=0.9)
    slow = SlowWeights(base)
    assert chain_of(base) == (base,)
    assert chain_of(slow) == (slow, base)
    assert chain_of(Trainer(slow)) == (slow, base)
    plain = Plain(base)
    assert chain_of(plain) == (plain, base)
    assert name_of((slow, base)) == "SlowWeights of SGD"
    assert [is_innermost(level) for level in (slow, base)] == [False, True]


def test_what_it_keeps_of_a_parameter() -> None:
    network = kernels()
    base = SGD(network[0].parameters(), lr=0.1, momentum=0.9)
    slow = SlowWeights(base)
    steps(network, slow, 3)
    weight = network[0].weight
    kept = dict(entries((slow, base), weight))
    assert kept.keys() == {(0, "slow"), (1, "momentum_buffer")}
    assert kept[1, "momentum_buffer"] is base.state[weight]["momentum_buffer"]
    assert owns((slow, base), weight)
    assert not owns((slow, base), network[1].weight)
    assert groups_with(base, weight) == [base.param_groups[0]]
    slow.state = base.state  # as wrappers do that show the inner one's
    assert len(stores((slow, base))) == 1
    assert stores((Adam(network.parameters()),)) == [{}]


def test_walk() -> None:
    one, two = torch.ones(1), torch.ones(2)
    assert list(walk({"a": [one, {"b": two}], "c": 3, "d": None})) == [(("a", 0), one), (("a", 1, "b"), two)]
