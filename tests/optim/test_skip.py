"""Filters that a step leaves out, against a bare step whose held rows are put back, state and all."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest
import torch
from reference.nets import Net, batches, loss_of, net
from torch import Tensor, nn
from torch.optim import SGD, Adam

from filtersmith.filters import filter_layers
from filtersmith.optim.chains import chains_of
from filtersmith.optim.hold import Rows
from filtersmith.optim.skip import Skipped


def test_the_log_says_which_layers_take_no_part(caplog: pytest.LogCaptureFixture) -> None:
    model = net()
    with caplog.at_level(logging.INFO, logger="filtersmith"):
        skipped = Skipped("X", model, filter_layers(model))
    assert [record.getMessage() for record in caplog.records] == [
        "layer 'grouped' computes the gradients of all its filters: it has 2 groups",
        "layer 'depthwise' computes the gradients of all its filters: it has 6 groups",
        "layer 'up' computes the gradients of all its filters: it is a ConvTranspose2d",
        "layer 'grouped_up' computes the gradients of all its filters: it is a ConvTranspose2d",
    ]
    (grouped,) = filter_layers(model, ["grouped"])
    assert not [*skipped.kept(chains_of(SGD(model.parameters())), grouped, torch.tensor([0]))]


def test_nothing_to_skip_is_worth_a_warning() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4))
    with pytest.warns(UserWarning, match=r"^X: no layer can leave gradients of filters out"):
        Skipped("X", model, filter_layers(model))


def rows_with_gradients(model: nn.Module, name: str) -> list[bool]:
    weight = model.get_submodule(name).weight
    assert weight.grad is not None
    return weight.grad.flatten(1).any(1).tolist()


def test_from_start_to_stop_the_chosen_have_gradients() -> None:
    model = net()
    skipped = Skipped("X", model, filter_layers(model))
    mask = torch.tensor([True, False] * 4)
    batch, optimizer = next(batches()), SGD(model.parameters(), 0.1)

    def check(expected: list[bool]) -> None:
        model.zero_grad()
        loss_of(model, batch).backward()
        assert rows_with_gradients(model, "dense") == expected
        assert all(rows_with_gradients(model, "grouped"))

    check([True] * 8)
    skipped.compute({"dense": mask})
    check([True] * 8)  # not yet
    skipped.start(optimizer)
    check(mask.tolist())
    skipped.compute({"dense": ~mask, "grouped": torch.zeros(6, dtype=torch.bool)})
    check((~mask).tolist())
    skipped.compute({"dense": mask})
    check(mask.tolist())
    skipped.start(optimizer)
    check(mask.tolist())  # a second optimizer that is attached to changes nothing
    skipped.stop()
    skipped.stop()
    check([True] * 8)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_what_torch_jit_made_stands_beside() -> None:
    network = nn.Sequential(torch.jit.script(nn.Conv2d(3, 4, 3)), nn.Conv2d(4, 4, 3))
    layers = filter_layers(network)
    assert [layer.name for layer in layers] == ["1"]
    Skipped("WAU", network, layers)


def test_two_modules_with_one_weight_both_leave_out() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU(), nn.Conv2d(3, 3, 3))
    model[2].weight = model[0].weight
    skipped = Skipped("X", model, filter_layers(model))
    skipped.start(SGD(model.parameters(), 0.1))
    skipped.compute({"0": torch.tensor([False, True, False])})
    model(torch.randn(2, 3, 8, 8)).square().sum().backward()
    assert rows_with_gradients(model, "0") == [False, True, False]


@pytest.mark.parametrize("make", [lambda p: SGD(p, 0.1, momentum=0.9, weight_decay=0.1), lambda p: Adam(p, 0.1)])
def test_what_an_optimizer_keeps_of_them_is_found_and_starts_anew(make: Any) -> None:
    model: Net = net()
    (layer,) = filter_layers(model, ["dense"])
    optimizer, held = make(model.parameters()), torch.tensor([1, 6])
    skipped = Skipped("X", model, [layer])
    skipped.check(optimizer)

    def step() -> list[Rows]:
        spots = [*skipped.kept(chains_of(optimizer), layer, held)]
        loss_of(model, next(batches())).backward()
        optimizer.step()
        skipped.clear(optimizer)
        return spots

    def kept() -> dict[str, Tensor]:
        state = optimizer.state[model.dense.weight]
        return {key: value for key, value in state.items() if value.shape == model.dense.weight.shape}

    assert step() == [], "nothing is kept before the first step"
    assert all(not value[held].any() and value[[0, 2, 3, 4, 5, 7]].any() for value in kept().values())
    before = copy.deepcopy(kept())
    assert len(step()) == len(before)
    assert all(value[held].any() for value in kept().values()), "it was one step's only"
