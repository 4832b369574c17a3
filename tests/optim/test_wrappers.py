"""What stands around an optimizer: wrappers of every kind."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from reference.nets import Wrapper, net
from torch import nn
from torch.optim import SGD, Adam, Optimizer

from filtersmith.optim.wrappers import innermost_of, levels, owned_by


def weight() -> nn.Parameter:
    made = nn.Parameter(torch.ones(2))
    made.grad = torch.ones(2)
    return made


class Shards(Optimizer):
    """As ZeroRedundancyOptimizer: an optimizer itself, with the one that moves the weights inside."""

    def __init__(self, optimizer: Any) -> None:
        super().__init__([weight()], {})
        self.optim = optimizer


@pytest.mark.parametrize("wrap", [Wrapper, Shards, lambda o: Wrapper(Shards(Shards(o))), lambda o: o])
def test_the_optimizer_that_moves_the_weights(wrap: Any) -> None:
    optimizer = SGD([weight()])
    assert innermost_of(wrap(optimizer)) == (optimizer,)


def test_attributes_that_hold_no_optimizer_are_not_looked_into() -> None:
    optimizer = SGD([weight()])
    optimizer.optimizer, optimizer.optim = "sgd", torch.optim  # type: ignore[attr-defined]
    assert innermost_of(optimizer) == (optimizer,)


@pytest.mark.parametrize("wrong", [None, "sgd", SGD, Wrapper("sgd"), net(), [SGD([weight()])]])
def test_what_is_no_optimizer_is_refused_by_its_kind(wrong: Any) -> None:
    with pytest.raises(ValueError, match=f"^optimizer must be a torch.optim.Optimizer, got {type(wrong).__name__}$"):
        innermost_of([wrong])


def test_accelerates_wrapper() -> None:
    accelerate = pytest.importorskip("accelerate")
    optimizer = SGD([weight()])
    wrapped = accelerate.Accelerator(cpu=True).prepare(optimizer)
    assert levels(wrapped) == (wrapped, optimizer)
    assert innermost_of(wrapped) == (optimizer,)


class SAM(Optimizer):
    """As it is mostly written: groups are shared with the optimizer inside."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"rho": 0.05})
        self.base_optimizer = SGD(self.param_groups, lr=0.1)
        self.param_groups = self.base_optimizer.param_groups


class Both(Optimizer):
    """Two optimizers, for different parameters, as one."""

    def __init__(self, *optimizers: Optimizer) -> None:
        super().__init__([p for o in optimizers for g in o.param_groups for p in g["params"]], {})
        self.parts = list(optimizers)


def test_what_is_inside_is_found_whatever_it_is_called() -> None:
    timm = pytest.importorskip("timm.optim")
    mine = weight()
    sam, lookahead = SAM([mine]), timm.Lookahead(SGD([mine]))
    assert levels(sam) == (sam, sam.base_optimizer)
    assert innermost_of(lookahead) == (lookahead._base_optimizer,)
    first, second = SGD([mine]), Adam([other := weight()])
    both = Wrapper(Both(first, second))
    assert innermost_of(both) == (first, second)
    parts = SimpleNamespace(matrices=first, others=second, step=print)
    assert owned_by(parts) == {id(mine), id(other)}, "of all in a container without groups of its own"
    assert owned_by(both) == {id(mine), id(other)}
    with pytest.raises(ValueError, match="different optimizers, got one of them twice"):
        innermost_of([both, second])


def test_a_schedule_is_no_optimizer_though_it_has_one() -> None:
    with pytest.raises(ValueError, match=r"torch.optim.Optimizer, got StepLR"):
        levels(torch.optim.lr_scheduler.StepLR(SGD([weight()]), 1))
