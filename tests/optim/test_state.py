"""Clearing what an optimizer remembers: the named rows and nothing else; or everything."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from reference.filters import members
from reference.nets import CONVOLUTIONS, assert_same, assert_same_run, batches, loss_of, net, train
from torch import Tensor
from torch.optim import LBFGS, SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop

from filtersmith.filters import FilterLayer
from filtersmith.optim.beginning import reset
from filtersmith.optim.state import clear_filters, clear_rows

OPTIMIZERS: dict[str, tuple[Callable[[Any], Optimizer], int]] = {
    "sgd": (lambda p: SGD(p, lr=0.01), 0),
    "momentum": (lambda p: SGD(p, lr=0.01, momentum=0.9), 1),
    "adam": (lambda p: Adam(p, lr=0.01), 2),
    "adam-fused": (lambda p: Adam(p, lr=0.01, fused=True), 2),
    "amsgrad": (lambda p: AdamW(p, lr=0.01, amsgrad=True), 3),
    "rmsprop": (lambda p: RMSprop(p, lr=0.01, momentum=0.9, centered=True), 3),
    "adagrad": (lambda p: Adagrad(p, lr=0.01, initial_accumulator_value=0.5), 1),
    "adagrad-fused": (lambda p: Adagrad(p, lr=0.01, fused=True), 1),
}
"""Name -> maker, and how many tensors it keeps for each weight."""


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_only_the_rows_of_these_filters_are_cleared(name: str) -> None:
    make, slots = OPTIMIZERS[name]
    model = net()
    optimizer = make(model.parameters())
    train(model, optimizer, 2)
    for layer_name, filters in (*CONVOLUTIONS.items(), ("fc", 4)):
        module = model.get_submodule(layer_name)
        layer, chosen = FilterLayer(layer_name, module), list(range(0, filters, 2))
        before, weights = copy.deepcopy(optimizer.state_dict()["state"]), copy.deepcopy(model.state_dict())
        position = [p is module.weight for p in model.parameters()].index(True)

        assert clear_filters(optimizer, layer, torch.tensor(chosen)) == slots

        inside = members(module, chosen, "filter")
        for value in before.get(position, {}).values():
            if isinstance(value, Tensor) and value.shape == inside.shape:
                assert value[inside].any(), "nothing to clear"
                value[inside] = 0
        assert_same(optimizer.state_dict()["state"], before)
        assert_same(model.state_dict(), weights)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_only_these_rows_of_a_vector_are_cleared(name: str) -> None:
    make, slots = OPTIMIZERS[name]
    model = net()
    optimizer = make(model.parameters())
    train(model, optimizer, 2)
    before = copy.deepcopy(optimizer.state_dict()["state"])
    position = [p is model.bn.weight for p in model.parameters()].index(True)
    assert clear_rows(optimizer, model.bn.weight, torch.tensor([1, 6])) == slots
    for value in before.get(position, {}).values():
        if isinstance(value, Tensor) and value.ndim:
            value[[1, 6]] = 0
    assert_same(optimizer.state_dict()["state"], before)


def test_clearing_what_is_not_there_touches_nothing() -> None:
    model = net()
    optimizer = SGD(model.parameters(), lr=0.01, momentum=0.9)
    layer = FilterLayer("dense", model.dense)
    assert clear_filters(optimizer, layer, torch.tensor([0])) == 0  # before the first step
    assert layer.weight not in optimizer.state
    train(model, optimizer, 1)
    assert clear_filters(optimizer, layer, torch.tensor([], dtype=torch.int64)) == 1


@pytest.mark.parametrize("name", [*OPTIMIZERS, "lbfgs"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_after_reset_it_works_like_a_new_one(name: str, dtype: torch.dtype) -> None:
    make = OPTIMIZERS[name][0] if name != "lbfgs" else lambda p: LBFGS(p, lr=0.01, max_iter=2)
    torch.set_default_dtype(dtype)
    try:
        model = net()
        optimizer = make(model.parameters())
        steps = _closure_steps if name == "lbfgs" else train
        steps(model, optimizer, 2)
        reset(optimizer)
        twin = copy.deepcopy(model)
        fresh = make(twin.parameters())
        assert_same(optimizer.state_dict()["state"], fresh.state_dict()["state"])
        steps(model, optimizer, 2)
        steps(twin, fresh, 2)
        assert_same_run((model, optimizer), (twin, fresh))
    finally:
        torch.set_default_dtype(torch.float32)


def _closure_steps(model: Any, optimizer: Optimizer, steps: int) -> None:
    batch = next(batches())

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(model, batch)
        loss.backward()
        return loss

    for _ in range(steps):
        optimizer.step(closure)


def test_reset_keeps_learning_rates_groups_and_added_groups() -> None:
    model = net()
    optimizer = Adagrad([{"params": model.dense.parameters(), "lr": 0.3}], lr=0.1, initial_accumulator_value=0.2)
    optimizer.add_param_group({"params": model.fc.parameters(), "lr": 0.7})
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    reset(optimizer)  # the added group has no state yet: torch's Adagrad could not step it
    assert [group["lr"] for group in optimizer.param_groups] == [0.3, 0.7]
    assert optimizer.state[model.dense.weight]["sum"].unique().tolist() == pytest.approx([0.2])
    optimizer.step()
