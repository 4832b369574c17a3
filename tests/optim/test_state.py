"""Starting anew what an optimizer keeps of some filters: as in a fresh one, and nothing else."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from reference.filters import members
from reference.nets import assert_same, net, train
from reference.optimizers import (
    Counting,
    InAttributes,
    MadeInTheConstructor,
    MakeAny,
    Matrix,
    Mixing,
    Own,
    Rebinding,
    RowWise,
    SlowWeights,
    Unknowable,
    kernels,
    renewed,
    rows_of,
    steps,
)
from torch import Tensor, nn
from torch.optim import ASGD, LBFGS, SGD, Adafactor, Adagrad, Adam, AdamW, Optimizer, RMSprop, Rprop

from filtersmith.filters import FilterLayer
from filtersmith.optim.chains import chain_of, entries
from filtersmith.optim.state import (
    clear_elements,
    clear_filters,
    clear_rows,
    keeps_nothing,
    kept_of,
    refuse_unclear,
)

OPTIMIZERS: dict[str, tuple[Callable[[Any], Optimizer], int, float]] = {
    "sgd": (lambda p: SGD(p, lr=0.01), 0, 0),
    "momentum": (lambda p: SGD(p, lr=0.01, momentum=0.9), 1, 0),
    "adam": (lambda p: Adam(p, lr=0.01), 2, 0),
    "adam-fused": (lambda p: Adam(p, lr=0.01, fused=True), 2, 0),
    "amsgrad": (lambda p: AdamW(p, lr=0.01, amsgrad=True), 3, 0),
    "rmsprop": (lambda p: RMSprop(p, lr=0.01, momentum=0.9, centered=True), 3, 0),
    "adagrad": (lambda p: Adagrad(p, lr=0.01, initial_accumulator_value=0.5), 1, 0.5),
    "adagrad-fused": (lambda p: Adagrad(p, lr=0.01, fused=True), 1, 0),
}
"""Name -> maker, how many tensors it keeps for each weight, and what they start as."""


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_only_the_rows_of_these_filters_are_cleared(name: str) -> None:
    make, slots, start = OPTIMIZERS[name]
    model = net()
    optimizer = make(model.parameters())
    train(model, optimizer, 2)
    for layer_name, filters in (("dense", 8), ("grouped", 6), ("up", 5), ("grouped_up", 4), ("one", 1), ("fc", 4)):
        module = model.get_submodule(layer_name)
        layer, chosen = FilterLayer(layer_name, module), list(range(0, filters, 2))
        before, weights = copy.deepcopy(optimizer.state_dict()["state"]), copy.deepcopy(model.state_dict())
        position = [p is module.weight for p in model.parameters()].index(True)

        assert clear_filters(optimizer, layer, torch.tensor(chosen)) == slots

        inside = members(module, chosen, "filter")
        for value in before.get(position, {}).values():
            if isinstance(value, Tensor) and value.shape == inside.shape:
                assert value[inside].any(), "nothing to clear"
                value[inside] = start
        assert_same(optimizer.state_dict()["state"], before)
        assert_same(model.state_dict(), weights)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_only_these_rows_of_a_vector_are_cleared(name: str) -> None:
    make, slots, start = OPTIMIZERS[name]
    model = net()
    optimizer = make(model.parameters())
    train(model, optimizer, 2)
    before = copy.deepcopy(optimizer.state_dict()["state"])
    position = [p is model.bn.weight for p in model.parameters()].index(True)
    assert clear_rows(optimizer, model.bn.weight, torch.tensor([1, 6])) == slots
    for value in before.get(position, {}).values():
        if isinstance(value, Tensor) and value.ndim:
            value[[1, 6]] = start
    assert_same(optimizer.state_dict()["state"], before)


def test_clearing_what_is_not_there_touches_nothing() -> None:
    model = net()
    optimizer = SGD(model.parameters(), lr=0.01, momentum=0.9)
    layer = FilterLayer("dense", model.dense)
    assert clear_filters(optimizer, layer, torch.tensor([0])) == 0  # before the first step
    assert layer.weight not in optimizer.state
    train(model, optimizer, 1)
    assert clear_filters(optimizer, layer, torch.tensor([], dtype=torch.int64)) == 1
    other = SGD(net().parameters(), lr=0.01, momentum=0.9)
    assert clear_filters(other, layer, torch.tensor([0])) == 0, "it has none of these parameters"


class Late(Own):
    """Momentum, and a pull to where the weight was then, from the fourth step on."""

    def update(self, p: Any, grad: Any, state: Any, group: Any) -> None:
        state["step"] = state.get("step", 0) + 1
        if state["step"] > 3:
            m = state.setdefault("m", torch.zeros_like(p)).mul_(0.9).add_(grad)
            p.sub_(m + 0.1 * (p - state.setdefault("anchor", p.clone())), alpha=group["lr"])
        else:
            p.sub_(grad, alpha=group["lr"])


class FirstWeights(Own):
    """A copy of the first weights, or one number for weights that are all 0, as Prodigy's."""

    def update(self, p: Any, grad: Any, state: Any, group: Any) -> None:
        state.setdefault("first", p.clone() if p.any() else torch.zeros(()))
        p.sub_(grad, alpha=group["lr"])


KINDS: dict[str, MakeAny] = {
    "starts as the weight": lambda p: ASGD(p, lr=0.1, lambd=0, t0=2),
    "starts as the rate": lambda p: Rprop(p, lr=0.02),
    "rows and columns": lambda p: Adafactor(p, lr=0.02),
    "whole history": lambda p: LBFGS(p, lr=0.1, max_iter=2),
    "one number a row": RowWise,
    "counter in an attribute": Counting,
    "made in the constructor": MadeInTheConstructor,
    "pairs of rows": Matrix,
    "mixes rows": Mixing,
    "new tensors": Rebinding,
    "slow weights": lambda p: SlowWeights(SGD(p, lr=0.1, momentum=0.9)),
    "moments after some steps": Late,
    "slow weights of that": lambda p: SlowWeights(MadeInTheConstructor(p)),
}
OF_TIMM = ("madgrad", "rmsproptf", "lamb", "adafactorbv", "adan", "lookahead_adam", "muon", "kron", "novograd")


def of_timm(name: str) -> MakeAny:
    timm = pytest.importorskip("timm.optim")
    return lambda p: timm.create_optimizer_v2(list(p), name, lr=0.02, weight_decay=0.0)


@pytest.mark.parametrize("name", [*KINDS, *OF_TIMM])
def test_filters_that_come_back_stay_on_zero_gradients_with_the_state_of_a_fresh_optimizer(name: str) -> None:
    torch.manual_seed(0)
    network, filters = kernels(), torch.tensor([0, 2])
    make = KINDS[name] if name in KINDS else of_timm(name)
    optimizer: Any = make(network.parameters())
    with torch.compiler.set_stance("force_eager"):
        steps(network, optimizer, 7)
        new = renewed(network, filters)
        for layer, _ in new:
            clear_filters(optimizer, layer, filters)
        twin = kernels()
        twin.load_state_dict(network.state_dict())
        fresh: Any = make(twin.parameters())
        for each, of in ((network, optimizer), (twin, fresh)):
            steps(each, of, 1, size=0.0)
        for (layer, weights), other in zip(new, twin, strict=True):
            torch.testing.assert_close(rows_of(layer, filters), weights, rtol=0, atol=1e-6)
            expected = dict(entries(chain_of(fresh), other.weight))
            for path, value in entries(chain_of(optimizer), layer.weight):
                if path in expected and value.shape == layer.weight.shape:
                    rows = rows_of(layer, filters, expected[path])
                    torch.testing.assert_close(rows_of(layer, filters, value), rows, rtol=0, atol=1e-6)
        steps(network, optimizer, 6, size=0.0)
    for layer, weights in new:
        torch.testing.assert_close(rows_of(layer, filters), weights, rtol=0, atol=2e-6)


def test_state_of_other_shapes_starts_anew_for_these_filters_only() -> None:
    network, filters = kernels(), torch.tensor([1])
    for make, key, fresh in ((RowWise, "v", torch.ones(())), (Matrix, "pairs", 0.1 * torch.eye(5)[1])):
        optimizer = make(network.parameters())
        steps(network, optimizer, 4)
        weight = network[0].weight
        before = optimizer.state[weight][key].clone()
        clear_filters(optimizer, FilterLayer("0", network[0]), filters)
        before[1] = fresh
        if before.ndim > 1:
            before[:, 1] = fresh
        torch.testing.assert_close(optimizer.state[weight][key], before, rtol=0, atol=0)


def test_one_number_in_the_place_of_a_tensor_stays() -> None:
    network, rows = kernels(), torch.tensor([1])
    assert network[0].bias is not None
    nn.init.zeros_(network[0].bias)
    optimizer = FirstWeights(network.parameters())
    steps(network, optimizer, 2)
    with torch.no_grad():
        network[0].weight[1] = 3
    clear_rows(optimizer, network[0].bias, rows)
    clear_filters(optimizer, FilterLayer("0", network[0]), rows)
    assert optimizer.state[network[0].bias]["first"].ndim == 0
    assert optimizer.state[network[0].weight]["first"][1].unique().tolist() == [3]


def test_the_present_rate_and_not_the_one_of_then() -> None:
    network = kernels()
    optimizer = Rprop(network.parameters(), lr=0.5)
    layer = FilterLayer("0", network[0])
    for rate in (0.5, 0.25):
        optimizer.param_groups[0]["lr"] = rate
        steps(network, optimizer, 3)
        clear_filters(optimizer, layer, torch.tensor([1]))
        assert optimizer.state[layer.weight]["step_size"][1].unique().tolist() == [rate]


def test_masked_weights_start_anew_after_every_step() -> None:
    network = kernels()
    weight = network[0].weight
    mask = torch.rand(weight.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    for make, keys in (
        (lambda p: Adagrad(p, lr=0.1, initial_accumulator_value=0.5), {"sum": 0.5}),
        (lambda p: SlowWeights(SGD(p, lr=0.1, momentum=0.9)), {"slow": None, "momentum_buffer": 0}),
        (RowWise, {"m": 0}),
    ):
        optimizer: Any = make(network.parameters())
        steps(network, optimizer, 4)
        kept = {path[-1]: value for path, value in entries(chain_of(optimizer), weight)}
        before = {key: value.clone() for key, value in kept.items()}
        assert clear_elements(optimizer, weight, mask) == len(keys)
        for key, value in kept.items():
            start = keys.get(key, before[key])
            fresh = weight.detach() if start is None else torch.as_tensor(start, dtype=value.dtype)
            expected = torch.where(mask, fresh, before[key]) if key in keys else before[key]
            assert torch.equal(value, expected), key
    mixing = Mixing(network.parameters())
    steps(network, mixing, 2)
    clear_elements(mixing, weight, mask, mixed=True)
    assert weight not in mixing.state


def test_what_is_kept_of_filters_is_found_again_after_a_step_that_made_new_tensors() -> None:
    network, filters = kernels(), torch.tensor([1, 3])
    layer = FilterLayer("0", network[0])
    for make, spots in ((Rebinding, 1), (RowWise, 2), (Matrix, 3)):
        optimizer = make(network.parameters())
        assert keeps_nothing(optimizer, layer.weight, layer)
        assert list(kept_of(optimizer, layer.weight, layer, filters)) == []
        steps(network, optimizer, 2)
        assert not keeps_nothing(optimizer, layer.weight, layer)
        found = list(kept_of(optimizer, layer.weight, layer, filters))
        assert len(found) == spots
        steps(network, optimizer, 1)
        for tensor, part in found:
            assert any(tensor() is value for _, value in entries((optimizer,), layer.weight))
            view, index = part(tensor())
            assert len(view[index]) == 2
    mixing = Mixing(network.parameters())
    assert not keeps_nothing(mixing, layer.weight, layer), "of single filters it never keeps something"


def test_refused_by_name_where_nobody_can_tell() -> None:
    network = kernels()
    layers = [FilterLayer(name, module) for name, module in network.named_children()]
    for make in (InAttributes, lambda p: Unknowable(p, 1.0)):
        optimizer = make(network.parameters())
        with pytest.raises(ValueError, match=f"RePr cannot .* under {type(optimizer).__name__}: ") as said:
            refuse_unclear("RePr", optimizer, layers)
        assert "\n" not in str(said.value)
    for make in KINDS.values():
        refuse_unclear("RePr", [make(network.parameters())], layers)
