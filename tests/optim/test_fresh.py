"""What is learned of optimizers, and how often."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from reference.optimizers import (
    InAttributes,
    InDouble,
    MakeAny,
    Matrix,
    Mixing,
    Own,
    Rebinding,
    RowWise,
    SlowWeights,
    kernels,
    steps,
)
from torch import nn
from torch.optim import LBFGS, SGD, Adafactor, Adam, Rprop
from torch.optim.lr_scheduler import StepLR

from filtersmith.filters import FilterLayer
from filtersmith.optim import fresh
from filtersmith.optim.chains import chain_of
from filtersmith.optim.fresh import UnclearError, known, learn, start_anew
from filtersmith.optim.places import Place

SAME, ROWS, PAIRS = Place(as_parameter=True), Place(axes=(0,)), Place(axes=(0, 1))


class Blocks(Own):
    """Momentum with a scale for every 7 entries in memory, as of 8-bit optimizers."""

    def update(self, p: Any, grad: Any, state: Any, group: Any) -> None:
        m = state.setdefault("m", torch.zeros_like(p)).mul_(0.9).add_(grad)
        scale = torch.zeros(-(-p.numel() // 7) * 7).index_copy(0, torch.arange(p.numel()), m.flatten())
        state["scale"] = scale.view(-1, 7).abs().amax(1)
        p.sub_(m, alpha=group["lr"])


class Clipping(Own):
    """Scales gradients by their norm, so that all that is kept depends on all filters a little."""

    def update(self, p: Any, grad: Any, state: Any, group: Any) -> None:
        m = state.setdefault("m", torch.zeros_like(p)).mul_(0.9).add_(grad / (grad.norm() + 1e-6))
        p.sub_(m, alpha=group["lr"])


CASES: dict[str, tuple[MakeAny, str, dict[str, Place]]] = {
    "nothing": (lambda p: SGD(p, lr=0.1), "entries", {}),
    "moments": (lambda p: Adam(p), "entries", {"exp_avg": SAME, "exp_avg_sq": SAME}),
    "columns, too": (lambda p: Adafactor(p), "entries", {"row_var": ROWS, "col_var": ROWS}),
    "rows": (RowWise, "entries", {"v": ROWS, "m": SAME}),
    "pairs": (Matrix, "entries", {"pairs": PAIRS, "m": SAME}),
    "clipped": (Clipping, "entries", {"m": SAME}),
    "rebound": (Rebinding, "entries", {"m": SAME}),
    "slow": (lambda p: SlowWeights(Adam(p)), "entries", {"exp_avg": SAME, "exp_avg_sq": SAME, "slow": SAME}),
    "mixed": (Mixing, "parameter", {}),
    "blocks": (Blocks, "parameter", {}),
    "whole": (lambda p: LBFGS(p, max_iter=2), "optimizer", {}),
}


def learned_of(make: MakeAny, number: int = 0) -> fresh.Learned:
    network = kernels()
    layer = FilterLayer("", network[number])
    return learn(chain_of(make(network.parameters())), layer.weight, layer, set())


@pytest.mark.parametrize("name", CASES)
def test_where_filters_stand_and_what_starts_anew(name: str) -> None:
    make, anew, places = CASES[name]
    learned = learned_of(make)
    assert learned.anew == anew
    assert anew != "entries" or {path[-1]: place for path, place in learned.places.items()} == places


def test_filters_of_other_kinds_of_kernels() -> None:
    """Rows of a transposed kernel are inputs: a number for each of them belongs to no filter alone."""
    for make, number, anew, places in (
        (RowWise, 1, "entries", {"m": SAME}),
        (Mixing, 1, "entries", {"m": SAME}),  # it mixes inputs
        (RowWise, 2, "parameter", {"m": SAME}),  # to the filters of a group belong the numbers of some inputs
        (Blocks, 3, "entries", {"m": SAME, "scale": ROWS}),  # as long as a row
        (lambda p: Adafactor(p), 3, "entries", {"row_var": ROWS}),  # one mean over all filters for each column
    ):
        learned = learned_of(make, number)
        assert learned.anew == anew
        assert {path[-1]: place for path, place in learned.places.items()} == places


def test_nothing_is_claimed_that_does_not_hold() -> None:
    with pytest.raises(UnclearError, match="a filter moves although all that InAttributes keeps of it was started"):
        learned_of(InAttributes)


def test_weights_that_are_put_in_the_place_of_those_of_the_network() -> None:
    with pytest.raises(UnclearError, match="weights of its own"):
        learned_of(InDouble)


def test_it_is_learned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    learned: list[Any] = []
    monkeypatch.setattr(fresh, "learn", lambda *given: learned.append(1) or learn(*given))
    fresh._OF_KIND.clear()
    for rate in (0.1, 0.2):
        network = kernels()
        optimizer = Rprop(network.parameters(), lr=rate)
        StepLR(optimizer, 1)  # which puts something around its step
        layer = FilterLayer("0", network[0])
        for _ in range(2):
            found = known((optimizer,), layer.weight, layer)
            assert found.starts[0, "step_size"] == pytest.approx(rate), "constants are those of its own options"
    assert len(learned) == 1
    known((Rprop(network.parameters(), etas=(0.4, 1.3)),), layer.weight, layer)
    known((Rebinding(network.parameters()),), layer.weight, layer)
    assert len(learned) == 3, "of other options, and of another class"
    network = nn.Sequential(*(nn.Conv2d(3, 4, 1) for _ in range(3)))
    odd = Rprop(network.parameters())
    odd.note = object()  # type: ignore[attr-defined]
    for module in network:
        known((odd,), module.weight, FilterLayer("", module))
    assert len(learned) == 4, "of one that cannot be compared with others, for all layers of a shape"


def test_learning_touches_nothing_and_says_what_mixes(caplog: pytest.LogCaptureFixture) -> None:
    network = kernels()
    optimizer = Mixing(network.parameters())
    steps(network, optimizer, 2)
    before, random_state = {k: v.clone() for k, v in network.state_dict().items()}, torch.get_rng_state()
    layer = FilterLayer("0", network[0])
    with caplog.at_level(logging.INFO, "filtersmith"):
        for _ in range(2):
            learned = known((optimizer,), layer.weight, layer)
    assert [record.getMessage() for record in caplog.records] == [
        "Mixing mixes filters: all that it keeps of their parameter starts anew with filters that come back"
    ]
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert start_anew((optimizer,), layer.weight, layer, torch.tensor([1]), learned) == 2
    assert layer.weight not in optimizer.state
    assert network[1].weight in optimizer.state
