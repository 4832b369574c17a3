"""``WAU(mode="skip")`` against a bare step whose held filters are put back, with all that is kept of them."""

from __future__ import annotations

import copy
import io
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from methods.test_wau import MAKERS, sgd
from reference.nets import CONVOLUTIONS, assert_same, assert_same_run, batches, hooks_of, loss_of, net, train
from reference.wau import bare_copy, wau_step
from torch import Tensor, nn
from torch.optim import SGD, Adafactor, Adam, Optimizer

import filtersmith as fs

SKIPPED = ("dense", "one")
"""The dense convolutions of the network; the others are updated as the paper says."""
Backward = Callable[[nn.Module], None]


def backward(model: nn.Module, number: int = 0) -> None:
    loss_of(model, next(batch for n, batch in enumerate(batches()) if n == number)).backward()


def checked_step(wau: fs.WAU, model: nn.Module, optimizer: Optimizer, run: Backward) -> dict[str, Tensor]:
    """One step, compared with the reference. Returns the masks."""
    model.zero_grad()
    plain = copy.deepcopy(model)
    run(model)
    run(plain)
    before, state = copy.deepcopy(model), copy.deepcopy(optimizer.state_dict()["state"])
    bare, bare_optimizer = bare_copy(model, optimizer)
    bare_optimizer.step()
    optimizer.step()
    names = [name for name, _ in model.named_parameters()]
    for name, mask in wau.active.items():
        gradient, whole = (one.get_submodule(name).weight.grad for one in (model, plain))
        kept, bare_kept = (
            one.state_dict()["state"].get(names.index(f"{name}.weight"), {}) for one in (optimizer, bare_optimizer)
        )
        if name not in SKIPPED:
            torch.testing.assert_close(gradient, whole, rtol=1e-5, atol=1e-6)
            assert_same(kept, bare_kept)
            continue
        torch.testing.assert_close(gradient[mask], whole[mask], rtol=1e-5, atol=1e-6)
        assert not gradient[~mask].any()
        old = state.get(names.index(f"{name}.weight"), {})
        for key, value in kept.items():
            if not isinstance(value, Tensor) or value.shape != gradient.shape:
                assert_same(value, bare_kept[key], key)
                continue
            assert torch.equal(value[mask], bare_kept[key][mask]), key
            assert torch.equal(value[~mask], old[key][~mask] if key in old else torch.zeros_like(value[~mask])), key
    assert_same(model.state_dict(), wau_step(before, bare, wau.active))
    return wau.active


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
def test_each_step_is_that_of_the_chosen_filters(make: Callable[[Any], Optimizer]) -> None:
    model = net()
    optimizer = make(model.parameters())
    wau = fs.WAU(model, rate=0.5, seed=0, mode="skip").attach(optimizer)
    for number in range(3):
        active = checked_step(wau, model, optimizer, lambda m, n=number: backward(m, n))
        assert {name: int(mask.sum()) for name, mask in active.items()} == {
            name: max(1, n // 2) for name, n in CONVOLUTIONS.items()
        }


@pytest.mark.parametrize("draw", ["exact", "stochastic", "bernoulli", "with-replacement"])
def test_it_draws_what_the_papers_update_draws(draw: Any) -> None:
    found = []
    for mode in fs.methods.wau.MODES:
        model = net()
        optimizer = sgd(model.parameters())
        wau = fs.WAU(model, rate=0.3, seed=4, draw=draw, mode=mode).attach(optimizer)
        masks = []
        for number in range(4):
            train(model, optimizer, 1, start=number)
            masks.append(wau.active)
        found.append(masks)
    assert_same(*found)


def test_rate_one_is_the_bare_optimizer_bit_for_bit() -> None:
    model, twin = net(), net()
    optimizer, bare = sgd(model.parameters()), sgd(twin.parameters())
    fs.WAU(model, rate=1, mode="skip").attach(optimizer)
    train(model, optimizer, 3)
    train(twin, bare, 3)
    assert_same_run((model, optimizer), (twin, bare))


def test_one_mask_for_all_batches_of_a_step() -> None:
    model = net()
    optimizer = sgd(model.parameters())
    wau = fs.WAU(model, mode="skip").attach(optimizer)

    def three(model: nn.Module) -> None:
        for number in range(3):
            backward(model, number)

    first = checked_step(wau, model, optimizer, three)
    second = checked_step(wau, model, optimizer, three)
    assert not all(torch.equal(first[name], second[name]) for name in first)


def test_under_autocast() -> None:
    model = net()
    optimizer = Adam(model.parameters(), lr=0.05)
    wau = fs.WAU(model, mode="skip").attach(optimizer)

    def run(model: nn.Module) -> None:
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(model, next(batches()))
        loss.backward()

    for _ in range(2):
        checked_step(wau, model, optimizer, run)


def test_a_resumed_run_goes_on_with_the_same_masks() -> None:
    def set_up(seed: int) -> tuple[nn.Module, Optimizer, fs.WAU]:
        model = net(seed)
        optimizer = Adam(model.parameters(), lr=0.05)
        return model, optimizer, fs.WAU(model, rate=0.5, seed=seed, mode="skip").attach(optimizer)

    model, optimizer, wau = set_up(0)
    train(model, optimizer, 3)
    file = io.BytesIO()
    torch.save([model.state_dict(), optimizer.state_dict(), wau.state_dict()], file)
    train(model, optimizer, 3, start=3)
    resumed = set_up(1)
    file.seek(0)
    for part, state in zip(resumed, torch.load(file), strict=True):
        part.load_state_dict(state)
    train(resumed[0], resumed[1], 3, start=3)
    assert_same_run((model, optimizer), resumed[:2])
    assert_same(wau.state_dict(), resumed[2].state_dict())


def test_a_step_that_the_gradient_scaler_leaves_out_is_taken_later_with_its_mask() -> None:
    model = net()
    optimizer = sgd(model.parameters())
    wau = fs.WAU(model, mode="skip").attach(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    drawn = wau.state_dict()["next"]
    for fails in (True, False):
        optimizer.zero_grad()
        before = copy.deepcopy([dict(model.named_parameters()), optimizer.state_dict()["state"]])
        scaler.scale(loss_of(model, next(batches()))).backward()
        if fails:
            model.fc.bias.grad[0] = float("inf")
        scaler.step(optimizer)
        scaler.update()
        if fails:
            assert_same([dict(model.named_parameters()), optimizer.state_dict()["state"]], before)
            assert wau.active == {}
    assert_same(wau.active, drawn)


def test_several_optimizers_of_which_one_steps_twice() -> None:
    model = net()
    mine = [p for name, p in model.named_parameters() if name.startswith(("dense", "bn"))]
    others = [p for name, p in model.named_parameters() if not name.startswith(("dense", "bn"))]
    pair = [sgd(mine), Adam(others, lr=0.01)]
    wau = fs.WAU(model, mode="skip").attach(pair)
    for which in (0, 1, 0, 0, 1):
        drawn = wau.state_dict()["next"]
        model.zero_grad()
        backward(model)
        name, other = ("dense", "one") if which == 0 else ("one", "dense")
        gradients = model.get_submodule(name).weight.grad.flatten(1).any(1)
        assert torch.equal(gradients, drawn[name])
        pair[which].step()
        assert torch.equal(wau.active[name], drawn[name])
        assert torch.equal(wau.state_dict()["next"][other], drawn[other]), "no step, no draw"


def test_nothing_is_recompiled() -> None:
    import torch._dynamo

    torch._dynamo.reset()
    model = net()
    optimizer = sgd(model.parameters())
    wau = fs.WAU(model, mode="skip").attach(optimizer)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    try:
        with torch._dynamo.config.patch(error_on_recompile=True):
            torch._dynamo.utils.counters.clear()
            for number in range(4):
                active = checked_step(
                    wau, model, optimizer, lambda m, n=number: backward(compiled if m is model else m, n)
                )
                assert set(active) == set(CONVOLUTIONS)
                if number == 0:
                    graphs = Counter(torch._dynamo.utils.counters["stats"])
            assert graphs["unique_graphs"] == 1
            assert Counter(torch._dynamo.utils.counters["stats"]) == graphs
    finally:
        torch._dynamo.reset()


@pytest.mark.parametrize("draw", ["stochastic", "bernoulli", "with-replacement"])
def test_compiled_once_where_the_number_of_filters_changes(draw: Any) -> None:
    import torch._dynamo

    torch._dynamo.reset()
    model = net()
    optimizer = sgd(model.parameters())
    wau = fs.WAU(model, 0.3, mode="skip", draw=draw).attach(optimizer)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    try:
        with torch._dynamo.config.patch(error_on_recompile=True):
            for number in range(6):
                model.zero_grad()
                backward(compiled, number)
                before = copy.deepcopy(model)
                optimizer.step()
                moved = (model.dense.weight != before.dense.weight).flatten(1).any(1)
                assert torch.equal(moved, wau.active["dense"])
    finally:
        torch._dynamo.reset()


def test_detached_it_trains_like_the_bare_optimizer_and_may_be_attached_again() -> None:
    model, twin = net(), net()
    optimizer, bare = SGD(model.parameters(), lr=0.1), SGD(twin.parameters(), lr=0.1)
    wau = fs.WAU(model, mode="skip").attach(optimizer)
    train(model, optimizer, 2)
    wau.detach()
    wau.detach()
    assert hooks_of(model, optimizer) == 0
    assert not any("_conv_forward" in vars(module) for module in model.modules())
    twin.load_state_dict(model.state_dict())
    train(model, optimizer, 2)
    train(twin, bare, 2)
    assert_same_run((model, optimizer), (twin, bare))
    wau.attach(optimizer)
    checked_step(wau, model, optimizer, backward)


def test_a_layer_that_is_frozen_or_thawed_later() -> None:
    model = net()
    optimizer = sgd(model.parameters())
    wau = fs.WAU(model, mode="skip").attach(optimizer)
    model.dense.weight.requires_grad_(False)
    train(model, optimizer, 1)
    assert "dense" not in wau.active
    assert "one" in wau.active
    model.dense.weight.requires_grad_(True)
    for number in range(2):
        model.zero_grad()
        backward(model, number)
        given = model.dense.weight.grad.flatten(1).any(1)
        optimizer.step()
        assert int(wau.active["dense"].sum()) == 4
        assert given[wau.active["dense"]].all(), "what is updated has a gradient"
    assert torch.equal(given, wau.active["dense"])


def test_a_state_from_before_anything_was_attached() -> None:
    state = fs.WAU(net(), seed=3, mode="skip").state_dict()
    model = net()
    optimizer = sgd(model.parameters())
    wau = fs.WAU(model, seed=1, mode="skip").attach(optimizer)
    wau.load_state_dict(state)
    backward(model)
    given = model.dense.weight.grad.flatten(1).any(1)
    optimizer.step()
    assert torch.equal(given, wau.active["dense"])
    other = net()
    fresh_optimizer = sgd(other.parameters())
    fresh = fs.WAU(other, seed=3, mode="skip").attach(fresh_optimizer)
    train(other, fresh_optimizer, 1)
    assert_same(wau.active, fresh.active)


def test_another_optimizer_finds_all_gradients_and_is_told() -> None:
    model = net()
    optimizer = sgd(model.parameters())
    wau = fs.WAU(model, mode="skip").attach(optimizer)
    train(model, optimizer, 2)
    other = Adam(model.parameters(), 0.1)
    backward(model)
    with pytest.warns(UserWarning, match=r"not detached, and another optimizer \(Adam\) has taken a step"):
        other.step()
    model.zero_grad()
    backward(model)
    assert model.dense.weight.grad.flatten(1).any(1).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other.step()  # said once
        optimizer.step()  # and what was attached to goes on
    model.zero_grad()
    backward(model)
    given = model.dense.weight.grad.flatten(1).any(1)
    optimizer.step()
    assert torch.equal(given, wau.active["dense"])


def test_optimizers_of_other_networks_and_wrappers_do_not_matter() -> None:
    model, others = net(), net()
    optimizer, other = sgd(model.parameters()), sgd(others.parameters())

    class Wrapper(Optimizer):
        def __init__(self, optimizer: Optimizer) -> None:
            super().__init__(optimizer.param_groups, {})
            self.optimizer = optimizer

        def step(self, closure: Any = None) -> Any:
            return self.optimizer.step(closure)

    wau, wrapper = fs.WAU(model, mode="skip").attach(optimizer), Wrapper(optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(2):
            for one in (others, model):
                one.zero_grad()
                backward(one, number)
            given = model.dense.weight.grad.flatten(1).any(1)
            other.step()
            wrapper.step()
            assert torch.equal(given, wau.active["dense"])


def test_an_optimizer_that_mixes_filters_is_refused() -> None:
    model = net()
    with pytest.raises(ValueError, match=r"^WAU with mode='skip' needs an optimizer that keeps apart .* LBFGS mixes"):
        fs.WAU(model, mode="skip").attach(torch.optim.LBFGS(model.parameters()))
    fs.WAU(model).attach(torch.optim.LBFGS(model.parameters()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "skipped"}, "mode must be one of update, skip, got 'skipped'"),
        ({"mode": "skip", "unit": "element"}, "unit must be 'filter' with mode='skip', got 'element'"),
        ({"mode": "skip", "unit": "input-channel"}, "unit must be 'filter' with mode='skip', got 'input-channel'"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fs.WAU(net(), **options)
    text = ",".join(f"{key}={value}" for key, value in options.items())
    with pytest.raises(ValueError, match=message):
        compose_and_attach(f"wau({text})")


def compose_and_attach(text: str) -> None:
    training = fs.compose(text)
    model = training.prepare(net())
    training.attach(model, sgd(model.parameters()), epochs=1)


def test_states_of_the_other_mode_are_refused_and_those_of_before_there_was_one_taken() -> None:
    model = net()
    optimizers = [sgd(model.parameters()) for _ in range(2)]
    update, skip = (
        fs.WAU(model, mode=mode).attach(one) for mode, one in zip(fs.methods.wau.MODES, optimizers, strict=True)
    )
    for wau, other in ((update, skip), (skip, update)):
        with pytest.raises(ValueError, match=f"saved with mode='{other.mode}', this one has '{wau.mode}'"):
            wau.load_state_dict(other.state_dict())
    old = {key: value for key, value in update.state_dict().items() if key not in ("mode", "next")}
    update.load_state_dict(old)
    with pytest.raises(ValueError, match="saved with mode='update', this one has 'skip'"):
        skip.load_state_dict(old)


def test_an_optimizer_with_averages_over_filters_trains() -> None:
    """Of Adafactor a row of each filter is held, and what it keeps of all of them moves."""
    model = net()
    optimizer = Adafactor(model.parameters(), lr=0.01)
    wau = fs.WAU(model, mode="skip").attach(optimizer)
    train(model, optimizer, 1)
    before = copy.deepcopy(model)
    train(model, optimizer, 1, start=1)
    moved = (model.dense.weight != before.dense.weight).flatten(1).any(1)
    assert torch.equal(moved, wau.active["dense"])


def test_copies_train_as_plain_networks() -> None:
    model = net()
    optimizer = sgd(model.parameters())
    fs.WAU(model, mode="skip").attach(optimizer)
    other = copy.deepcopy(model)
    backward(other)
    assert other.dense.weight.grad.flatten(1).any(1).all()
    again = sgd(other.parameters())
    wau = fs.WAU(other, mode="skip").attach(again)
    other.zero_grad()
    backward(other)
    given = other.dense.weight.grad.flatten(1).any(1)
    again.step()
    assert torch.equal(given, wau.active["dense"])


def test_repr_says_it() -> None:
    assert repr(fs.WAU(net(), mode="skip")) == "WAU(rate=0.5, unit='filter', draw='exact', mode='skip', 6 layers)"
