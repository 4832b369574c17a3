"""How scratch copies are stepped."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from reference.optimizers import InAttributes, MadeInTheConstructor, MakeAny, Own, SlowWeights, kernels
from torch.optim import LBFGS, SGD, SparseAdam

from filtersmith.optim.chains import chain_of
from filtersmith.optim.scratch import Way, probing_weights
from filtersmith.optim.ways import MOST_STEPS, OF_WRAPPERS, find_way


class Waiting(Own):
    """Looks on for some steps."""

    waits = 4

    def update(self, p: Any, grad: Any, state: Any, group: Any) -> None:
        state["step"] = state.get("step", 0) + 1
        p.sub_(grad, alpha=group["lr"] * (state["step"] > self.waits))


class WaitingForEver(Waiting):
    waits = MOST_STEPS


class SecondOrder(Own):
    """Wants the graph of the gradients."""

    def step(self, closure: Any = None) -> None:
        for p in self.param_groups[0]["params"]:
            (curvature,) = torch.autograd.grad(p.grad.sum(), p)
            p.data.sub_(0.1 * (p.grad + curvature).detach())


class Broken(SlowWeights):
    """A wrapper that cannot be stepped by itself, with or without tensors of its own."""

    tensors = False

    def __init__(self, base: Any) -> None:
        super().__init__(base)
        self.mine = [torch.ones(3)] if self.tensors else []

    def step(self, closure: Any = None) -> None:
        raise NotImplementedError


class BrokenWithTensors(Broken):
    tensors = True


CASES: dict[str, tuple[MakeAny, Way | None]] = {
    "plain": (lambda p: SGD(p, lr=0.1), Way()),
    "no rate": (lambda p: SGD(p, lr=0.0), Way()),
    "closure": (lambda p: LBFGS(p), Way(closure=True)),
    "constructor": (MadeInTheConstructor, Way(constructed=True)),
    "lists": (InAttributes, Way(whole=True)),
    "graph": (SecondOrder, Way(second_order=True)),
    "later": (Waiting, Way(steps=7)),
    "never": (WaitingForEver, None),
    "sparse": (lambda p: SparseAdam(p), None),
    "wrapper": (lambda p: SlowWeights(SGD(p, lr=0.1)), Way(steps=OF_WRAPPERS)),
    "wrapper that cannot": (lambda p: Broken(SGD(p, lr=0.1)), Way(root=1, steps=OF_WRAPPERS)),
    "wrapper that cannot, and keeps": (lambda p: BrokenWithTensors(SGD(p, lr=0.1)), None),
}


@pytest.mark.parametrize("name", CASES)
def test_the_way_that_works(name: str) -> None:
    make, expected = CASES[name]
    network = kernels()
    weight = network[0].weight
    assert find_way(chain_of(make(network.parameters())), weight, probing_weights(weight)) == expected
