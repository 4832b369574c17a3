"""Filters that are left out for a while: bit for bit still in every step; who goes when; how they come back."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference.nets import Decaying, assert_same, hooks_of
from reference.smaller import without
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, Optimizer

from filtersmith.filters import FilterLayer
from filtersmith.graph.channels import channel_graph
from filtersmith.pruning.absence import DECAYED, Absence, Filter, Queue
from filtersmith.pruning.masks import ByZeros
from filtersmith.pruning.subnetwork import left_out
from filtersmith.zoo.vanilla import Vanilla

OUT: list[Filter] = [("features.3", 1), ("features.0", 2), ("features.0", 0), ("features.6", 3)]
NORMS = {"features.0": "features.1", "features.3": "features.4", "features.6": "features.7"}

MAKERS: dict[str, Callable[[Any], Optimizer]] = {
    "momentum": lambda p: SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-2),
    "adam": lambda p: Adam(p, lr=0.01, weight_decay=1e-2),
    "a step in a step": lambda p: Decaying(p, lr=0.1, momentum=0.9),
}


def network() -> Vanilla:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Vanilla(3, 6, image_size=8).double()


def layers_of(model: nn.Module) -> dict[str, FilterLayer]:
    return {name: FilterLayer(name, model.get_submodule(name)) for name in NORMS}


def absence_of(model: nn.Module, optimizers: Sequence[Optimizer]) -> Absence:
    return Absence(channel_graph(model), layers_of(model), optimizers, "RePr")


def train(model: nn.Module, optimizers: Iterable[Optimizer], steps: int, start: int = 0) -> None:
    for n in range(start, start + steps):
        generator = torch.Generator().manual_seed(n)
        images = torch.randn(8, 3, 8, 8, generator=generator, dtype=torch.float64)
        model.zero_grad()
        F.cross_entropy(model(images), torch.arange(8)).backward()
        for optimizer in optimizers:
            optimizer.step()


def own_rows(model: nn.Module, optimizers: Iterable[Optimizer], filters: Iterable[Filter]) -> dict[str, Tensor]:
    """All that filters have for themselves: parameters, statistics, and what optimizers keep of them."""
    found: dict[str, Tensor] = {}
    for layer, filter in filters:
        for module in (layer, NORMS[layer]):
            of = model.get_submodule(module)
            for name, tensor in (*of.named_parameters(), *of.named_buffers()):
                if tensor.ndim:
                    found[f"{module}.{name}[{filter}]"] = tensor.detach()[filter].clone()
                for optimizer in optimizers:
                    for key, value in optimizer.state.get(tensor, {}).items():
                        if isinstance(value, Tensor) and value.shape == tensor.shape:
                            found[f"{module}.{name}[{filter}].{key}"] = value[filter].clone()
    return found


# --- held still -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [0, 2], ids=["no state yet", "with state"])
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
def test_what_is_out_is_still_bit_for_bit(make: Callable[[Any], Optimizer], before: int) -> None:
    model = network()
    optimizer = make(model.parameters())
    absence = absence_of(model, [optimizer])
    train(model, [optimizer], before)
    absence.add(OUT[:3])
    still, others = (own_rows(model, [optimizer], some) for some in (OUT[:3], OUT[3:]))
    for n in range(3):
        if n == 2:  # all that it keeps is in other tensors then
            optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        train(model, [optimizer], 1, start=5 + n)
        now = own_rows(model, [optimizer], OUT[:3])
        assert_same({key: now[key] for key in still}, still)
        assert not any(now[key].any() for key in now.keys() - still.keys()), "made by the first step"
    now = own_rows(model, [optimizer], OUT[3:])
    assert not any(torch.equal(now[key], value) for key, value in others.items()), "the rest moves"


@pytest.mark.parametrize("make", [MAKERS["momentum"], MAKERS["adam"]])
def test_several_optimizers_are_as_one_and_as_a_smaller_network(make: Callable[[Any], Optimizer]) -> None:
    """Convolutions with one, batch norms and the rest with another."""
    found = []
    for split in (False, True):
        model = network()
        every = list(model.parameters())
        owned = [[p for p in every if p.ndim > 1], [p for p in every if p.ndim == 1]] if split else [every]
        optimizers = [make(some) for some in owned]
        absence = absence_of(model, optimizers)
        absence.add(OUT)
        if not split:
            smaller = without(model, absence.dropped)
            train(smaller, [make(smaller.parameters())], 4)
        train(model, optimizers, 4)
        if not split:
            assert_close(without(model, absence.dropped).state_dict(), smaller.state_dict())
        absence.end("orthogonal", 1.0, "none", torch.Generator().manual_seed(3))
        train(model, optimizers, 2, start=9)
        state = {name: [o.state[p] for o in optimizers if p in o.state] for name, p in model.named_parameters()}
        found.append([model.state_dict(), state])
        absence.detach()
        assert sum(hooks_of(model, optimizer) for optimizer in optimizers) == 0
    assert_same(*found)


def assert_close(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    for name in left:
        torch.testing.assert_close(left[name], right[name], rtol=1e-9, atol=1e-10)


def test_filters_are_added_to_those_that_are_out_or_set_in_their_place() -> None:
    model = network()
    absence = absence_of(model, [SGD(model.parameters(), lr=0.1)])
    absence.add([])
    assert absence.dropped == {}
    assert not left_out(model)
    for n in range(len(OUT)):
        absence.add(iter(OUT[n : n + 1]))
        out = [(name, int(f)) for name, mask in absence.dropped.items() for f in mask.nonzero()]
        assert sorted(out) == sorted(OUT[: n + 1])
    masks = {"features.0": torch.arange(6) == 5}
    absence.set(masks)
    masks["features.0"].fill_(True)
    assert_same(absence.dropped, {"features.0": torch.arange(6) == 5}, "a copy")
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    model.eval(), absence.set({})
    torch.testing.assert_close(model(images), network().eval()(images), rtol=0, atol=0)


def test_of_a_copy_that_zeros_do_not_make_everything_is_there() -> None:
    """Any other copy is plain."""
    model = network()
    optimizer, reasons = SGD(model.parameters(), lr=0.1), {name: "so it is said here" for name in NORMS}
    Absence(channel_graph(model), layers_of(model), [optimizer], "RePr", ByZeros(reasons, ())).add(OUT)
    copied = copy.deepcopy(model)
    assert left_out(copied.get_submodule(OUT[0][0])) is not None
    absence = absence_of(copied, [SGD(copied.parameters(), lr=0.1)])
    assert absence.dropped == {}
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(copied.eval()(images), network().eval()(images), rtol=0, atol=0)


# --- coming back ------------------------------------------------------------------------------------------------


def test_coming_back_as_they_were() -> None:
    model = network()
    optimizer = MAKERS["momentum"](model.parameters())
    absence = absence_of(model, [optimizer])
    train(model, [optimizer], 2)
    absence.add(OUT)
    train(model, [optimizer], 2)
    before = own_rows(model, [optimizer], OUT)
    weights = copy.deepcopy(model.state_dict())
    assert absence.end("none", 1.0, "none", torch.Generator()) == {}
    assert_same([own_rows(model, [optimizer], OUT), model.state_dict()], [before, weights])
    assert absence.dropped == {}
    train(model, [optimizer], 1)
    now = own_rows(model, [optimizer], OUT)
    assert not any(torch.equal(now[key], value) for key, value in before.items()), "they move again"


@pytest.mark.parametrize("reinit_next", ["small", "zero"])
def test_coming_back_anew(reinit_next: Any) -> None:
    model = network()
    optimizer = MAKERS["adam"](model.parameters())
    absence = absence_of(model, [optimizer])
    train(model, [optimizer], 2)
    absence.add([("features.3", 1), ("features.3", 4)])
    masks = absence.dropped["features.3"]
    reader, fc = model.get_submodule("features.6"), copy.deepcopy(model.fc.state_dict())
    read = reader.weight.detach().clone()
    counts = absence.end("orthogonal", 1.0, reinit_next, torch.Generator().manual_seed(1))
    assert counts["orthogonal"] == sum(counts.values()) == 2
    rows = model.get_submodule("features.3").weight.detach().flatten(1)
    cosines = F.normalize(rows) @ F.normalize(rows).T
    torch.testing.assert_close(cosines[masks], torch.eye(6, dtype=torch.float64)[masks], rtol=0, atol=1e-6)
    states = own_rows(model, [optimizer], [("features.3", 1), ("features.3", 4)])
    assert not any(value.any() for key, value in states.items() if "exp_avg" in key)
    weight: Tensor = reader.weight.detach()
    assert torch.equal(weight[:, ~masks], read[:, ~masks])
    assert bool(weight[:, masks].any()) == (reinit_next == "small")
    assert not optimizer.state[reader.weight]["exp_avg"][:, masks].any()
    assert_same(model.fc.state_dict(), fc)


def test_detached_it_holds_nothing() -> None:
    model = network()
    optimizer = MAKERS["momentum"](model.parameters())
    absence = absence_of(model, [optimizer])
    train(model, [optimizer], 1)
    absence.add(OUT)
    absence.detach()
    absence.detach()
    assert hooks_of(model, optimizer) == 0
    before = own_rows(model, [optimizer], OUT)
    train(model, [optimizer], 1)
    now = own_rows(model, [optimizer], OUT)
    assert any(not torch.equal(now[key], value) for key, value in before.items()), "decay and momentum"


def test_a_step_that_a_scaler_skips_moves_nothing() -> None:
    model = network()
    optimizer = Adam(model.parameters(), lr=0.01, fused=True)
    absence = absence_of(model, [optimizer])
    absence.add(OUT)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    for factor in (torch.inf, 1.0):
        before = copy.deepcopy(model.state_dict())
        model.zero_grad()
        loss = model(torch.randn(4, 3, 8, 8, dtype=torch.float64)).square().mean()
        scaler.scale(loss * factor).backward()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scaler.step(optimizer)
        scaler.update()
        moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
        assert bool(moved) == (factor == 1.0)
    for key, value in own_rows(model, [optimizer], OUT).items():
        assert "exp_avg" not in key or not value.any(), key


# --- the queue --------------------------------------------------------------------------------------------------


@given(filters=st.integers(0, 12), steps=st.integers(0, 8))
def test_gradually_they_go_in_even_parts_the_first_at_once(filters: int, steps: int) -> None:
    queue = Queue(gradual_steps=steps)
    waiting: list[Filter] = [("a", f) for f in range(filters)]
    queue.fill(list(waiting))
    assert bool(queue) == bool(filters)
    gone = queue.due()
    for step in range(1, max(1, steps) + 1):
        assert gone == waiting[: filters * step // max(1, steps)], "the worst first"
        assert queue.due() == [], "once"
        gone += queue.after_step({})
    assert gone == waiting
    assert not queue
    assert queue.chosen == filters


@pytest.mark.parametrize("steps", [1, 5])
def test_they_shrink_before_they_go_together(steps: int) -> None:
    model = network()
    layers = layers_of(model)
    before = {name: layer.weight.detach().clone() for name, layer in layers.items()}
    queue = Queue(decay_steps=steps)
    queue.fill(list(OUT))
    assert queue.due() == []
    for step in range(1, steps + 1):
        assert bool(queue)
        gone = queue.after_step(layers)
        assert gone == (OUT if step == steps else [])
        for name, layer in layers.items():
            chosen = [f for of, f in OUT if of == name]
            expected = before[name].clone()
            expected[chosen] *= DECAYED ** (step / steps)
            torch.testing.assert_close(layer.weight.detach(), expected)
            others = [f for f in range(6) if f not in chosen]
            assert torch.equal(layer.weight[others], before[name][others])
    assert not queue
    assert queue.after_step(layers) == []


@pytest.mark.parametrize("options", [{"gradual_steps": 4}, {"decay_steps": 4}])
def test_a_queue_goes_on_from_its_state(options: dict[str, int]) -> None:
    layers = layers_of(network())
    whole, first, second = Queue(**options), Queue(**options), Queue(**options)
    for queue in (whole, first):
        queue.fill(list(OUT))
        queue.due()
        queue.after_step(layers)
    state = first.state_dict()
    second.load_state_dict({**state, "queue": [list(filter) for filter in state["queue"]]})  # as JSON has them
    first.take(9)
    assert second.state_dict() == whole.state_dict() == state, "a copy"
    while whole:
        assert second.after_step(layers) == whole.after_step(layers)
    assert not second
    second.fill([("features.0", 1)])
    assert (second.chosen, second.waited) == (1, 0), "filled anew it starts anew"
