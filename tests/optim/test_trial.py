"""Trials with scratch copies."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from reference.optimizers import MakeAny, Matrix, Own, RowWise, SlowWeights, kernels
from torch.optim import ASGD, SGD, Adagrad, Adam, Rprop

from filtersmith.filters import FilterLayer
from filtersmith.optim.chains import chain_of
from filtersmith.optim.trial import Kept, Trial, starts


class Late(Own):
    """Keeps a copy of its weights from the ninth step on, in another precision."""

    def update(self, p: Any, grad: Any, state: Any, group: Any) -> None:
        state["step"] = state.get("step", 0) + 1
        if state["step"] == 9:
            state["copy"] = p.double()
        p.sub_(grad, alpha=group["lr"])


CASES: dict[str, tuple[MakeAny, dict[str, float | str]]] = {
    "zeros": (lambda p: Adam(p), {"step": 0, "exp_avg": 0, "exp_avg_sq": 0}),
    "before the first decay": (RowWise, {"v": 1, "m": 0}),
    "a constant": (lambda p: Adagrad(p, initial_accumulator_value=0.25), {"step": 0, "sum": 0.25}),
    "the rate": (lambda p: Rprop(p, lr=0.125), {"step": 0, "prev": 0, "step_size": 0.125}),
    "the weight": (lambda p: ASGD(p), {"step": 0, "eta": 0.01, "mu": 1, "ax": "weight"}),
    "slow weights": (lambda p: SlowWeights(SGD(p, lr=0.1)), {"slow": "weight"}),
    "something else": (Matrix, {"pairs": "other", "m": 0}),
}


def trial_of(make: MakeAny) -> Trial:
    network = kernels()
    layer = FilterLayer("0", network[0])
    trial = Trial(chain_of(make(network.parameters())), layer.weight, layer)
    assert trial.find_way()
    return trial


@pytest.mark.parametrize("name", CASES)
def test_what_tensors_start_as(name: str) -> None:
    make, expected = CASES[name]
    found = {path[-1]: start for path, start in starts(trial_of(make), set()).items()}
    assert {k: pytest.approx(v) if isinstance(v, float) else v for k, v in expected.items()} == found


def test_what_comes_late_is_waited_for() -> None:
    trial = trial_of(Late)
    assert starts(trial, set()) == {}
    assert starts(trial, {(0, "copy")}) == {(0, "copy"): "weight"}


def test_gradients() -> None:
    trial = trial_of(lambda p: SGD(p, lr=0.1))
    kinds: tuple[Kept, ...] = ("all", "others", "filter", "none")
    for kind in kinds:
        (first, *rest) = trial.gradients(1, kind)
        assert len(rest) == 2
        assert bool((first[trial.own] != 0).all()) == (kind in ("all", "filter"))
        assert bool((first[~trial.own] != 0).all()) == (kind in ("all", "others"))
    before, after = trial.stepped().parameter, trial.stepped(other=torch.ones_like(trial.weights)).parameter
    assert torch.equal(before != after, trial.own)
