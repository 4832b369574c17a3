"""WAU against the slow reference and against the list that the method must satisfy."""

from __future__ import annotations

import contextlib
import copy
import io
import random
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reference.nets import (
    CONVOLUTIONS,
    assert_same,
    assert_same_run,
    batches,
    hooks_of,
    loss_of,
    net,
    train,
    train_step,
)
from reference.wau import bare_copy, wau_step
from torch import Tensor, nn
from torch.optim import LBFGS, SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop

import filtersmith as fs
from filtersmith.filters import UNITS, FilterLayer
from filtersmith.methods.wau import DRAWS, draw_active

Batch = tuple[Tensor, Tensor]

KINDS: dict[str, tuple[Callable[..., Optimizer], dict[str, Any]]] = {
    "sgd": (SGD, {"weight_decay": 1e-2}),
    "momentum": (SGD, {"momentum": 0.9, "weight_decay": 1e-2}),
    "nesterov": (SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-2}),
    "rmsprop": (RMSprop, {"momentum": 0.9, "weight_decay": 1e-2}),
    "adagrad": (Adagrad, {"weight_decay": 1e-2}),
    "adam": (Adam, {"weight_decay": 1e-2}),
    "adamw": (AdamW, {"weight_decay": 1e-2, "amsgrad": True}),
}
LOOPS = {"for-loop": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}
MAKERS: dict[str, Callable[[Any], Optimizer]] = {
    f"{kind}-{loop}": lambda p, c=cls, o=options, h=how: c(p, lr=0.05, **o, **h)
    for kind, (cls, options) in KINDS.items()
    for loop, how in LOOPS.items()
    if (kind, loop) != ("rmsprop", "fused")  # torch has none
}
optimizers = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


def sgd(params: Any) -> Optimizer:
    return SGD(params, lr=0.1, momentum=0.9, weight_decay=1e-2)


def whole(rate: float, n: int) -> int:
    """The number of filters that the paper's Eq. (2) means, in whole numbers."""
    return max(1, int(rate * n + 1e-9))


def checked_step(
    wau: fs.WAU, model: nn.Module, optimizers: list[Optimizer], backward: Callable[[nn.Module], None]
) -> dict[str, Tensor]:
    """One masked step, compared with the reference: weights, buffers and state, bit for bit. Returns the masks."""
    model.zero_grad()
    backward(model)
    before = copy.deepcopy(model)
    bare, bare_optimizers = bare_copy(model, optimizers)  # type: ignore[arg-type]
    for optimizer, bare_optimizer in zip(optimizers, bare_optimizers, strict=True):  # type: ignore[call-overload]
        bare_optimizer.step()
        optimizer.step()
        assert_same(optimizer.state_dict(), bare_optimizer.state_dict(), "optimizer")
    assert_same(model.state_dict(), wau_step(before, bare, wau.active, wau.unit), "model")
    return wau.active


def moved(model: nn.Module, before: nn.Module, name: str) -> list[bool]:
    """Which filters of a layer changed, in bits."""
    old, new = before.get_submodule(name).weight, model.get_submodule(name).weight
    changed = (old != new).detach()
    if name == "grouped_up":
        return changed.unflatten(0, (2, 2)).transpose(1, 2).flatten(0, 1).flatten(1).any(1).tolist()
    return (changed.transpose(0, 1) if name == "up" else changed).flatten(1).any(1).tolist()


# --- the list of methods.md 1.5, in its order ---------------------------------------------------------------


@optimizers
def test_1_rate_one_is_the_bare_optimizer_bit_for_bit(make: Callable[[Any], Optimizer]) -> None:
    model, twin = net(), net()
    optimizer, bare = make(model.parameters()), make(twin.parameters())
    wau = fs.WAU(model, rate=1.0).attach(optimizer)
    train(model, optimizer, 4)
    train(twin, bare, 4)
    assert_same_run((model, optimizer), (twin, bare))
    assert all(mask.all() for mask in wau.active.values())
    assert list(wau.active) == list(CONVOLUTIONS)


@optimizers
def test_2_3_4_6_each_step_is_the_bare_step_for_exactly_k_filters(make: Callable[[Any], Optimizer]) -> None:
    model = net()
    optimizer = make(model.parameters())
    wau = fs.WAU(model, rate=0.5).attach(optimizer)
    for n, batch in zip(range(3), batches(), strict=False):
        before = copy.deepcopy(model)
        active = checked_step(wau, model, [optimizer], lambda m, b=batch: loss_of(m, b).backward())
        for name, filters in CONVOLUTIONS.items():
            assert active[name].tolist() == moved(model, before, name), (n, name)
            assert int(active[name].sum()) == whole(0.5, filters)
        for other in ("bn", "fc"):
            assert not torch.equal(before.get_submodule(other).weight, model.get_submodule(other).weight)


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=("nchw", "nhwc"))
def test_every_unit_and_draw_in_both_layouts(unit: Any, draw: Any, memory_format: torch.memory_format) -> None:
    model = net().to(memory_format=memory_format)
    optimizer = sgd(model.parameters())
    wau = fs.WAU(model, rate=0.4, unit=unit, draw=draw, layers=[*CONVOLUTIONS, "fc"]).attach(optimizer)
    held = 0
    for _, batch in zip(range(3), batches(), strict=False):
        active = checked_step(
            wau,
            model,
            [optimizer],
            lambda m, b=batch: loss_of(m, (b[0].to(memory_format=memory_format), b[1])).backward(),
        )
        for name, mask in active.items():
            layer = FilterLayer(name, model.get_submodule(name))
            assert mask.shape == (layer.units(unit),)
            assert layer.weight.is_contiguous(memory_format=memory_format) or layer.weight.ndim == 2
        held += sum(int((~mask).sum()) for mask in active.values())
    assert held > 0


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    percent=st.integers(1, 100),
    seed=st.integers(0, 2**32),
)
@example(sizes=[100, 7], percent=29, seed=0)  # 0.29 * 100 is 28.999999999999996
@settings(max_examples=60)
def test_2_the_number_of_chosen_units(sizes: list[int], percent: int, seed: int) -> None:
    rate = percent / 100  # exact arithmetic on hundredths below, so that 0.29 of 100 is 29
    floors = [percent * n // 100 for n in sizes]

    def counts(draw: Any) -> list[int]:
        active = draw_active(sizes, rate, draw, torch.Generator().manual_seed(seed))
        assert active.shape == (sum(sizes),)
        return [int(mask.sum()) for mask in active.split(sizes)]

    assert counts("exact") == [max(1, k) for k in floors]
    for n, floor, k in zip(sizes, floors, counts("stochastic"), strict=True):
        assert k in ({floor} if percent * n % 100 == 0 else {floor, floor + 1})
    for floor, k in zip(floors, counts("with-replacement"), strict=True):
        assert min(1, floor) <= k <= floor
    assert all(0 <= k <= n for n, k in zip(sizes, counts("bernoulli"), strict=True))


def test_5_every_filter_gets_its_share_and_layers_are_independent() -> None:
    generator = torch.Generator().manual_seed(1)
    sizes, draws = [8, 5, 8], 3000
    masks = torch.stack([draw_active(sizes, 0.5, "exact", generator) for _ in range(draws)]).double()
    assert (masks.sum(1) == 4 + 2 + 4).all()  # without replacement
    for mask, k in zip(masks.split(sizes, 1), (4, 2, 4), strict=True):
        n = mask.shape[1]
        expected = draws * k / n
        # Draws without replacement have variance k/n (1 - k/n) and sum to k: this is chi-square with n-1 degrees.
        statistic = (mask.sum(0) - expected).square().sum() / (expected * (1 - k / n)) * (n - 1) / n
        assert statistic < {5: 18.5, 8: 24.3}[n]  # the 99.9% quantiles
    # Correlation of any filter with any of another layer, and with any of the step before: N(0, 1/draws).
    z = (masks - masks.mean(0)) / masks.std(0)
    layer = torch.repeat_interleave(torch.arange(3), torch.tensor(sizes))
    across = (z.T @ z / draws)[layer[:, None] != layer]
    over_time = z[1:].T @ z[:-1] / draws
    for correlation in (across, over_time):
        assert correlation.abs().max() < 4.5 / draws**0.5
    # Within a layer all pairs are equally likely: correlation -1/(n-1).
    pairs = (z.T @ z / draws)[:8, :8][~torch.eye(8, dtype=torch.bool)]
    assert (pairs + 1 / 7).abs().max() < 4.5 / draws**0.5


def test_5_the_share_of_the_looser_draws() -> None:
    generator = torch.Generator().manual_seed(2)
    for draw in ("bernoulli", "stochastic"):
        masks = torch.stack([draw_active([7, 3], 0.3, draw, generator) for _ in range(3000)]).double()
        assert masks.mean() == pytest.approx(0.3, abs=0.01)  # "exact" would give 2/7 and 1/3
        assert masks[:, :7].mean() == pytest.approx(0.3, abs=0.01)
        assert masks[:, 7:].mean() == pytest.approx(0.3, abs=0.02)


def test_7_neither_outputs_nor_loss_of_a_step_depend_on_the_mask() -> None:
    seen = []
    for rate, seed in ((1.0, 0), (0.5, 1), (0.5, 2), (0.1, 3)):
        model = net()
        optimizer = sgd(model.parameters())
        fs.WAU(model, rate=rate, seed=seed).attach(optimizer)
        batch = next(batches())
        output = model(batch[0])
        nn.functional.cross_entropy(output, batch[1]).backward()
        gradients = [p.grad.clone() for p in model.parameters()]
        optimizer.step()
        seen.append((output.detach(), gradients, dict(model.named_buffers())))
    for other in seen[1:]:
        assert_same(other, seen[0])


@pytest.mark.parametrize("draw", DRAWS)
def test_8_global_random_generators_are_left_alone(draw: Any) -> None:
    model = net()
    optimizer = sgd(model.parameters())
    torch.manual_seed(5)
    random.seed(5)
    before = torch.get_rng_state(), random.getstate()
    wau = fs.WAU(model, rate=0.5, seed=7, draw=draw).attach(optimizer)
    train(model, optimizer, 2)
    wau.load_state_dict(wau.state_dict())
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


@pytest.mark.parametrize("draw", DRAWS)
def test_9_a_resumed_run_goes_on_with_the_same_masks(draw: Any) -> None:
    def set_up(seed: int) -> tuple[nn.Module, Optimizer, fs.WAU]:
        model = net(seed)
        optimizer = Adam(model.parameters(), lr=0.05)
        return model, optimizer, fs.WAU(model, rate=0.5, seed=seed, draw=draw).attach(optimizer)

    model, optimizer, wau = set_up(0)
    train(model, optimizer, 3)
    wau.rate = 0.3
    file = io.BytesIO()
    torch.save([model.state_dict(), optimizer.state_dict(), wau.state_dict()], file)
    train(model, optimizer, 3, start=3)

    resumed, optimizer_resumed, wau_resumed = set_up(1)
    file.seek(0)
    for part, state in zip((resumed, optimizer_resumed, wau_resumed), torch.load(file), strict=True):
        part.load_state_dict(state)
    assert wau_resumed.rate == 0.3
    train(resumed, optimizer_resumed, 3, start=3)
    assert_same_run((model, optimizer), (resumed, optimizer_resumed))
    assert_same(wau.active, wau_resumed.active)
    assert_same(wau.state_dict(), wau_resumed.state_dict())


def test_9_masks_follow_the_seed() -> None:
    def masks(seed: int) -> dict[str, Tensor]:
        model = net()
        optimizer = sgd(model.parameters())
        wau = fs.WAU(model, seed=seed).attach(optimizer)
        train(model, optimizer, 1)
        return wau.active

    assert_same(masks(-3), masks(-3))
    assert not all(torch.equal(mask, masks(1)[name]) for name, mask in masks(0).items())


@pytest.mark.parametrize("fused", [False, True])
def test_10_a_step_that_the_gradient_scaler_skips_changes_nothing(fused: bool) -> None:
    model = net()
    optimizer = Adam(model.parameters(), lr=0.05, fused=fused)
    wau = fs.WAU(model, rate=0.5).attach(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    twin = net()
    bare_optimizer = Adam(twin.parameters(), lr=0.05, fused=fused)
    for n, batch in zip(range(4), batches(), strict=False):
        optimizer.zero_grad()
        scaler.scale(loss_of(model, batch)).backward()
        skipped = n == 2
        if skipped:
            model.fc.bias.grad[0] = float("inf")
        before = copy.deepcopy(model)
        state = copy.deepcopy([optimizer.state_dict()["state"], wau.state_dict(), wau.active])
        # The same gradients without WAU, through a scaler of its own.
        twin.load_state_dict(model.state_dict())
        bare_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # it would share the tensors
        for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
            theirs.grad = ours.grad.clone()
        bare_scaler = torch.amp.GradScaler("cpu", init_scale=scaler.get_scale())
        bare_scaler.scale(torch.ones(()))
        bare_scaler.step(bare_optimizer)

        scaler.step(optimizer)
        scaler.update()

        if skipped:
            assert_same(model.state_dict(), before.state_dict())
            assert_same([optimizer.state_dict()["state"], wau.state_dict(), wau.active], state)
        else:
            assert_same(model.state_dict(), wau_step(before, twin, wau.active))
            assert_same(optimizer.state_dict()["state"], bare_optimizer.state_dict()["state"])
            assert not torch.equal(wau.state_dict()["generator"], state[1]["generator"])


def test_11_the_published_codes_mode() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=4), nn.ReLU(), nn.Conv2d(4, 64, 1))
    images = torch.randn(2, 3, 6, 6)
    optimizer = SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    wau = fs.WAU(model, rate=0.3, unit="input-channel", draw="with-replacement").attach(optimizer)

    def changed() -> list[int]:
        before = [model[i].weight.detach().clone() for i in (0, 2, 4)]
        optimizer.zero_grad()
        model(images).square().sum().backward()
        optimizer.step()
        after = [model[i].weight.detach() for i in (0, 2, 4)]
        return [int((a != b).transpose(0, 1).flatten(1).any(1).sum()) for a, b in zip(after, before, strict=True)]

    for _ in range(5):
        assert changed() == [0, 0, 1]  # an RGB input never trains, nor a depthwise layer
    wau.rate = 0.99
    for _ in range(5):
        rgb, depthwise, last = changed()
        assert (1 <= rgb <= 2, depthwise, 1 <= last <= 3) == (True, 0, True)
    wau.rate = 1.0
    assert min(sum(changed()) for _ in range(5)) < 3 + 1 + 4

    generator = torch.Generator().manual_seed(0)
    masks = torch.stack([draw_active([64], 1.0, "with-replacement", generator) for _ in range(400)])
    assert masks.double().mean() == pytest.approx(1 - (1 - 1 / 64) ** 64, abs=0.01)  # 63%, not the baseline
    assert masks.any(0).all()
    half = torch.stack([draw_active([64], 0.5, "with-replacement", generator) for _ in range(400)])
    assert half.double().mean() == pytest.approx(1 - (1 - 1 / 64) ** 32, abs=0.01)  # 39%


@pytest.mark.parametrize(("lr", "gradient"), [(0.0, 1.0), (0.1, 0.0)])
def test_12_without_a_displacement_nothing_changes(lr: float, gradient: float) -> None:
    model = net()
    before = copy.deepcopy(model.state_dict())
    optimizer = SGD(model.parameters(), lr=lr, momentum=0.9)
    wau = fs.WAU(model).attach(optimizer)
    for p in model.parameters():
        p.grad = torch.full_like(p, gradient)
    for _ in range(2):
        optimizer.step()
    assert_same(model.state_dict(), before)
    assert int(wau.active["dense"].sum()) == 4


# --- how it meets other people's loops ----------------------------------------------------------------------


@pytest.mark.parametrize("line_search", [None, "strong_wolfe"])
def test_lbfgs_closures(line_search: str | None) -> None:
    model, batch = net(), next(batches())

    def make(model: nn.Module) -> Optimizer:
        return LBFGS(model.parameters(), lr=0.1, max_iter=3, line_search_fn=line_search)

    optimizer = make(model)
    wau = fs.WAU(model, rate=0.5).attach(optimizer)

    def closure(model: nn.Module) -> Callable[[], Tensor]:
        def evaluate() -> Tensor:
            model.zero_grad()
            loss = loss_of(model, batch)
            loss.backward()
            return loss

        return evaluate

    for _ in range(2):
        before, bare = copy.deepcopy(model), copy.deepcopy(model)
        bare_optimizer = make(bare)
        bare_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        bare_loss = bare_optimizer.step(closure(bare))
        assert torch.equal(optimizer.step(closure(model)), bare_loss)
        assert_same(model.state_dict(), wau_step(before, bare, wau.active))
        assert_same(optimizer.state_dict(), bare_optimizer.state_dict())
        for name in CONVOLUTIONS:
            assert moved(model, before, name) == wau.active[name].tolist()


def test_several_optimizers() -> None:
    model = net()
    first = ("dense", "bn", "grouped", "depthwise")
    parts = [
        [p for name, p in model.named_parameters() if (name.split(".")[0] in first) is here] for here in (True, False)
    ]
    pair = [sgd(parts[0]), Adam(parts[1], lr=0.01)]
    wau = fs.WAU(model, rate=0.5)
    for optimizer in pair:
        wau.attach(optimizer)
    for _, batch in zip(range(2), batches(), strict=False):
        active = checked_step(wau, model, pair, lambda m, b=batch: loss_of(m, b).backward())
        assert {name: int(mask.sum()) for name, mask in active.items()} == {
            name: whole(0.5, n) for name, n in CONVOLUTIONS.items()
        }
    wau.detach()
    assert [hooks_of(model, optimizer) for optimizer in pair] == [0, 0]


def test_parameter_groups_added_later() -> None:
    model = net()
    optimizer = sgd(model.dense.parameters())
    wau = fs.WAU(model, rate=0.5).attach(optimizer)
    train_step(model, optimizer, next(batches()))
    assert list(wau.active) == ["dense"]
    optimizer.add_param_group({"params": [p for n, p in model.named_parameters() if not n.startswith("dense")]})
    active = checked_step(wau, model, [optimizer], lambda m: loss_of(m, next(batches())).backward())
    assert set(active) == set(CONVOLUTIONS)


def test_gradient_accumulation_draws_once_a_step() -> None:
    model = net()
    optimizer = sgd(model.parameters())
    wau = fs.WAU(model, rate=0.5).attach(optimizer)
    generator = wau.state_dict()["generator"]

    def three_times(model: nn.Module) -> None:
        for _, batch in zip(range(3), batches(), strict=False):
            (loss_of(model, batch) / 3).backward()
        assert torch.equal(wau.state_dict()["generator"], generator)

    checked_step(wau, model, [optimizer], three_times)


def test_frozen_layers() -> None:
    model = net()
    optimizer = sgd(model.parameters())
    wau = fs.WAU(model, rate=0.5).attach(optimizer)
    batch = next(batches())
    train_step(model, optimizer, batch)
    model.dense.weight.requires_grad_(False)  # its gradient is still there, so the optimizer moves it once more
    before = copy.deepcopy(model)
    optimizer.step()
    assert moved(model, before, "dense") == wau.active["dense"].tolist()
    assert int(wau.active["dense"].sum()) == 4

    before = copy.deepcopy(model)
    train_step(model, optimizer, batch)  # zero_grad drops it
    assert torch.equal(model.dense.weight, before.dense.weight)
    assert set(wau.active) == set(CONVOLUTIONS) - {"dense"}

    model.dense.weight.requires_grad_(True)
    active = checked_step(wau, model, [optimizer], lambda m: loss_of(m, batch).backward())
    assert set(active) == set(CONVOLUTIONS)

    for name in CONVOLUTIONS:
        model.get_submodule(name).requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train_step(model, optimizer, batch)
    assert wau.active == {}


def test_a_tensor_that_layers_share_counts_once() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU(), nn.Conv2d(3, 3, 3))
    model[2].weight = model[0].weight
    optimizer = SGD(model.parameters(), lr=0.1)
    wau = fs.WAU(model, rate=0.4).attach(optimizer)
    before = model[0].weight.detach().clone()
    model(torch.randn(1, 3, 6, 6)).square().sum().backward()
    optimizer.step()
    assert list(wau.active) == ["0"]
    assert int((model[2].weight != before).flatten(1).any(1).sum()) == 1


def test_rate_may_be_set_at_any_time() -> None:
    model = net()
    optimizer = sgd(model.parameters())
    wau = fs.WAU(model, rate=0.5, layers=["dense"]).attach(optimizer)
    assert wau.active == {}
    for rate, count in ((0.5, 4), (1.0, 8), (1, 8), (0.01, 1), (0.75, 6)):
        wau.rate = rate
        before = copy.deepcopy(model)
        train_step(model, optimizer, next(batches()))
        assert sum(moved(model, before, "dense")) == count
        assert sum(moved(model, before, "grouped")) == 6, "only the named layer is masked"


def test_model_and_optimizer_stay_the_users_own() -> None:
    model, plain = net(), net()
    optimizer = sgd(model.parameters())
    fs.WAU(model, rate=0.5).attach(optimizer)
    train(model, optimizer, 2)
    assert list(model.state_dict()) == list(plain.state_dict())
    assert type(model) is type(plain)
    assert type(optimizer) is SGD
    copied = copy.deepcopy(model)  # as an average of weights is made
    assert_same(copied.state_dict(), model.state_dict())
    other = sgd(copied.parameters())
    before = copy.deepcopy(copied)
    train_step(copied, other, next(batches()))
    assert all(moved(copied, before, "dense")), "an optimizer that is not attached to is masked"


def test_detached_it_trains_like_the_bare_optimizer() -> None:
    model = net()
    optimizer = sgd(model.parameters())
    wau = fs.WAU(model, rate=0.5).attach(optimizer)
    train(model, optimizer, 1)
    wau.detach()
    assert not wau.attached_to(optimizer)
    assert hooks_of(model, optimizer) == 0
    twin, bare = bare_copy(model, optimizer)
    train(model, optimizer, 2)
    train(twin, bare, 2)
    assert_same_run((model, optimizer), (twin, bare))


@pytest.mark.parametrize("rate", [0.5, 0.3, 1.0])
def test_extra_memory_is_what_is_held_and_no_more(rate: float) -> None:
    model = net()
    optimizer = sgd(model.parameters())
    wau = fs.WAU(model, rate=rate).attach(optimizer)
    seen: list[int] = []

    def look(*_: Any) -> None:
        (kept,) = wau._hold._kept.values()
        assert len(kept) == sum(not mask.all() for mask in wau.active.values())
        seen.append(sum(one.put_back.args[0].nbytes for one in kept))

    optimizer.register_step_pre_hook(look)
    train_step(model, optimizer, next(batches()))
    held = sum(
        model.get_submodule(name).weight.nbytes * (n - whole(rate, n)) // n for name, n in CONVOLUTIONS.items()
    )
    assert seen == [held]
    assert not wau._hold._kept


def test_masks_are_drawn_on_the_cpu_whatever_the_default_device() -> None:
    model = net()
    optimizer = sgd(model.parameters())
    wau = fs.WAU(model, rate=0.5).attach(optimizer)
    loss_of(model, next(batches())).backward()
    torch.set_default_device("meta")  # stands for any that is not the CPU
    try:
        for rate in (0.5, 1.0):
            wau.rate = rate
            optimizer.step()
            assert all(mask.device.type == "cpu" for mask in wau.active.values())
    finally:
        torch.set_default_device(None)


def test_an_optimizer_with_none_of_the_layers_is_worth_a_warning() -> None:
    optimizer = sgd(net().parameters())
    fs.WAU(net()).attach(optimizer)
    with pytest.warns(UserWarning, match=r"WAU: this optimizer has none of its 6 layers"):
        optimizer.step()


@pytest.mark.parametrize("compiled_first", [False, True])
def test_torch_compile_needs_no_recompilation(compiled_first: bool) -> None:
    import torch._dynamo

    torch._dynamo.reset()
    model = net()
    compiled = torch.compile(model, backend="eager")
    optimizer = sgd(model.parameters())
    wau = fs.WAU(compiled if compiled_first else model, rate=0.5).attach(optimizer)
    try:
        with torch._dynamo.config.patch(error_on_recompile=True):
            torch._dynamo.utils.counters.clear()
            for n, batch in zip(range(3), batches(), strict=False):
                active = checked_step(
                    wau, model, [optimizer], lambda m, b=batch: loss_of(_of(compiled, m), b).backward()
                )
                assert set(active) == set(CONVOLUTIONS)
                if n == 0:
                    frames = Counter(torch._dynamo.utils.counters["frames"])
                wau.rate = 0.7
            assert frames["ok"] >= 1
            assert Counter(torch._dynamo.utils.counters["frames"]) == frames
    finally:
        torch._dynamo.reset()


def _of(compiled: nn.Module, model: nn.Module) -> nn.Module:
    assert compiled._orig_mod is model
    return compiled


# --- bad input ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0}, r"rate must be a number in \(0, 1\], got 0"),
        ({"rate": 1.5}, r"rate must be .*, got 1.5"),
        ({"rate": float("nan")}, "rate must be .*, got nan"),
        ({"rate": True}, "rate must be .*, got True"),
        ({"rate": "half"}, "rate must be .*, got 'half'"),
        ({"unit": "filters"}, "unit must be one of filter, input-channel, element, got 'filters'"),
        ({"draw": "random"}, "draw must be one of exact, stochastic, bernoulli, with-replacement, got 'random'"),
        ({"seed": 0.5}, "seed must be a whole number.*, got 0.5"),
        ({"seed": 2**64}, f"seed must be a whole number.*, got {2**64}"),
        ({"layers": ["densse"]}, r"unknown layer 'densse' \(did you mean 'dense'\?\)"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fs.WAU(net(), **options)


def test_a_bad_rate_leaves_the_old_one() -> None:
    wau = fs.WAU(net(), rate=0.5)
    with pytest.raises(ValueError, match="rate must be"):
        wau.rate = 0
    assert wau.rate == 0.5


def test_the_state_of_another_set_up_is_refused() -> None:
    wau = fs.WAU(net(), rate=0.5)
    before = wau.state_dict()
    other = {"unit": "element", "draw": "bernoulli", "layers": ["dense"]}
    for option, value in other.items():
        state = fs.WAU(net(), rate=0.3, seed=1, **{option: value}).state_dict()
        with pytest.raises(ValueError, match=f"{option}="):
            wau.load_state_dict(state)
    with pytest.raises(ValueError, match="not a state of WAU: generator missing"):
        wau.load_state_dict({k: v for k, v in before.items() if k != "generator"})
    assert_same(wau.state_dict(), before)


def test_repr_says_what_it_does() -> None:
    assert repr(fs.WAU(net(), rate=0.3)) == "WAU(rate=0.3, unit='filter', draw='exact', 6 layers)"


def test_a_step_that_raised_draws_no_mask() -> None:
    """The next one has the mask that was drawn for it, as if nothing had happened."""

    def fails() -> float:
        raise RuntimeError("no loss")

    drawn = []
    for steps in ((None, fails, None), (None, None)):
        model = net()
        optimizer = SGD(model.parameters(), lr=0.1)
        wau = fs.WAU(model, rate=0.5, seed=3).attach(optimizer)
        for closure in steps:
            with contextlib.suppress(RuntimeError):
                optimizer.step(closure)
        drawn.append((wau.active, wau.state_dict()["generator"]))
    (one, generator), (other, same) = drawn
    assert {name: mask.tolist() for name, mask in one.items()} == {
        name: mask.tolist() for name, mask in other.items()
    }
    assert torch.equal(generator, same)
