"""What stands around an optimizer: wrappers of every kind, steps inside steps, steps that are left out."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from reference.nets import Decaying, Wrapper, net
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from filtersmith.optim.wrappers import innermost, step_runs, update_is_skipped, warn_if_idle


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
    assert innermost(wrap(optimizer)) is optimizer


def test_attributes_that_hold_no_optimizer_are_not_looked_into() -> None:
    optimizer = SGD([weight()])
    optimizer.optimizer, optimizer.optim = "sgd", torch.optim  # type: ignore[attr-defined]
    assert innermost(optimizer) is optimizer


@pytest.mark.parametrize("wrong", [None, "sgd", SGD, Wrapper("sgd"), net(), [SGD([weight()])]])
def test_what_is_no_optimizer_is_refused_by_its_kind(wrong: Any) -> None:
    with pytest.raises(ValueError, match=f"^optimizer must be a torch.optim.Optimizer, got {type(wrong).__name__}$"):
        innermost(wrong)


def test_accelerates_wrapper() -> None:
    accelerate = pytest.importorskip("accelerate")
    optimizer = SGD([weight()])
    assert innermost(accelerate.Accelerator(cpu=True).prepare(optimizer)) is optimizer


# --- steps ---------------------------------------------------------------------------------------------------


def runs_in(optimizer: Optimizer, seen: list[bool]) -> None:
    """Whether a step of ``optimizer`` runs is asked by its own hooks, as `Hold` does."""

    def ask(*_: Any) -> None:
        seen.append(step_runs(optimizer))

    optimizer.register_step_pre_hook(ask)
    optimizer.register_step_post_hook(ask)


def test_a_step_that_calls_its_parents_is_told_from_one_that_does_not() -> None:
    SGD([weight()])  # from the first instance on, torch runs hooks for the parent class, too
    for make, expected in ((SGD, [False, False]), (Decaying, [False, True, True, False])):
        optimizer, seen = make([weight()], lr=0.1), []
        runs_in(optimizer, seen)
        optimizer.step()
        assert seen == expected, make


def test_only_a_step_of_this_optimizer_counts_and_only_while_it_runs() -> None:
    outer, other = SGD([weight()], lr=0.1), SGD([weight()], lr=0.1)
    seen = []

    def closure() -> Tensor:
        seen.append([step_runs(outer), step_runs(other)])
        return torch.zeros(())

    outer.step(closure)
    assert seen == [[True, False]]
    with pytest.raises(ZeroDivisionError):
        outer.step(lambda: 1 / 0)
    assert not step_runs(outer), "a step that raised is over"


@pytest.mark.parametrize(
    ("found", "skipped"),
    [(None, False), (torch.tensor(0.0), False), (torch.tensor(1.0), True), (torch.tensor([1.0]), True)],
)
def test_a_fused_step_is_skipped_where_its_scaler_found_infinities(found: Tensor | None, skipped: bool) -> None:
    optimizer = SGD([weight()])
    assert not update_is_skipped(optimizer), "not asked by a scaler"
    optimizer.found_inf = found  # type: ignore[attr-defined]
    assert update_is_skipped(optimizer) == skipped


@pytest.mark.parametrize("finite", [True, False])
def test_torchs_scaler_tells_a_fused_optimizer(finite: bool) -> None:
    parameter = weight()
    optimizer = torch.optim.Adam([parameter], lr=0.1, fused=True)
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append(update_is_skipped(optimizer)))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    factor = 1.0 if finite else torch.inf
    optimizer.zero_grad()
    scaler.scale((parameter * factor).sum()).backward()
    before = parameter.detach().clone()
    scaler.step(optimizer)
    assert seen == [not finite]
    assert torch.equal(parameter, before) == (not finite), "torch does what the function says"


def test_an_optimizer_that_has_nothing_of_a_method_is_warned_of() -> None:
    with pytest.warns(UserWarning, match=r"^WAU: this optimizer has none of its 3 layers \(was it made for another"):
        warn_if_idle("WAU", 3, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_idle("WAU", 3, 1)
        warn_if_idle("WAU", 0, 0)
