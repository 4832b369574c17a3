"""Pruning against networks that really are smaller, single weights set to 0 by hand, and naive sorting."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from reference import pruning as by_hand
from reference.nets import CONVOLUTIONS, Decaying, assert_same, assert_same_run, batch_number, hooks_of, net
from reference.nets import loss_of as loss_on
from reference.nets import train as train_net
from reference.smaller import without as smaller
from reference.subnet import NETS, build, entries, loss_of, without
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter
from torch.nn import functional as F
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop, lr_scheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import filtersmith as fs
from filtersmith.methods.prune import Prune
from filtersmith.zoo.vanilla import Vanilla

LAYERS = [*CONVOLUTIONS, "fc"]
STEPS = 2  # of each epoch
TIGHT = {"rtol": 1e-9, "atol": 1e-11}
units = pytest.mark.parametrize("unit", ["filter", "weight"])

MAKERS: dict[str, Callable[[Any], Optimizer]] = {
    "momentum": lambda p: SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-2),
    "amsgrad-foreach": lambda p: AdamW(p, lr=0.01, amsgrad=True, foreach=True),
    "adam-fused": lambda p: Adam(p, lr=0.01, weight_decay=1e-2, fused=True),
    "rmsprop": lambda p: RMSprop(p, lr=0.01, momentum=0.9, centered=True),
    "subclass": lambda p: Decaying(p, lr=0.1, momentum=0.9),
}


def sgd(params: Any) -> Optimizer:
    return MAKERS["momentum"](params)


def vanilla(**options: Any) -> Vanilla:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Vanilla(3, 6, image_size=8, **options)


def images(n: int = 0, size: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n)
    return torch.randn(size, 3, 8, 8, generator=generator), torch.randint(10, (size,), generator=generator)


def train(model: nn.Module, optimizer: Optimizer, steps: int, start: int = 0) -> None:
    for n in range(start, start + steps):
        x, y = images(n)
        optimizer.zero_grad()
        F.cross_entropy(model(x.to(next(model.parameters()).dtype)), y).backward()
        optimizer.step()


def state_of(optimizer: Optimizer, parameter: Tensor) -> list[Tensor]:
    values = optimizer.state.get(parameter, {}).values()
    return [v for v in values if isinstance(v, Tensor) and v.shape == parameter.shape]


# --- filters ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.3, 0.99])
@pytest.mark.parametrize("name", NETS)
def test_full_shape_with_zeros_is_the_smaller_network(name: str, share: float) -> None:
    """In every architecture, at once and after training, in both modes; by hand it is known what goes."""
    model = build(name)
    optimizer = Adam(model.parameters(), lr=0.01, weight_decay=1e-2)
    pruning = Prune(model, optimizer, 1, share, first_layer=True, layers=model.layers)
    for step in range(4):
        if step == 1:
            modules = dict(model.named_modules())
            expected = {layer: by_hand.smallest_filters(modules[layer], share) for layer in model.layers}
            assert pruning.parameters_kept == sum(p.numel() for p in model.parameters())
            assert pruning.step() == "pruned"
            assert {layer: by_hand.entries(mask) for layer, mask in pruning.pruned.items()} == expected
            assert any(expected.values())
        optimizer.zero_grad()
        loss_of(model(model.images(4, step))).backward()
        optimizer.step()
    gone = entries(model, pruning.pruned)
    parameters = dict(model.named_parameters())
    for key, mask in gone.items():
        for tensor in [parameters[key], *state_of(optimizer, parameters[key])] if key in parameters else ():
            assert not tensor[mask].any(), key
            assert tensor[~mask].any() or mask.all() or not tensor.numel(), key
    kept = sum(int((~mask).sum()) for key, mask in gone.items() if key in parameters)
    assert pruning.parameters_kept == kept < sum(p.numel() for p in model.parameters())

    by_hands, whole = without(model, pruning.pruned), copy.deepcopy(model)
    lean = {training: whole.train(training)(model.images(4, 9)) for training in (False, True)}
    pruning.finish()
    assert pruning.parameters_kept == kept
    assert not any("_lean" in vars(module) for module in model.modules())
    for training in (False, True):
        ours = model.train(training)(model.images(4, 9))
        torch.testing.assert_close(ours, lean[training], **TIGHT)
        torch.testing.assert_close(ours, by_hands.train(training)(model.images(4, 9)), **TIGHT)


@pytest.mark.parametrize("bn", [True, False])
def test_it_trains_like_a_network_that_was_built_smaller(bn: bool) -> None:
    model = vanilla(bn=bn).double()
    optimizer = sgd(model.parameters())
    pruning = Prune(model, optimizer, 1, 0.4)
    pruning.step()  # before the optimizer has any state: the smaller network starts with the same
    small = smaller(model, pruning.pruned)
    assert pruning.parameters_kept == sum(p.numel() for p in small.parameters())
    train(small, sgd(small.parameters()), 5)
    train(model, optimizer, 5)
    assert pruning.parameters_kept == by_hand.count([*model.parameters()])
    pruning.finish()
    x = images(7)[0].double()
    torch.testing.assert_close(model.eval()(x), small.eval()(x), rtol=1e-8, atol=1e-9)
    for name, tensor in smaller(model, pruning.pruned).state_dict().items():
        torch.testing.assert_close(tensor, small.state_dict()[name], rtol=1e-8, atol=1e-9)
    single = model.float()(x.float())
    torch.testing.assert_close(single, smaller(model, pruning.pruned).eval()(x.float()), rtol=0, atol=1e-5)


def test_the_share_is_of_each_layer_and_the_first_one_stays() -> None:
    model = vanilla()
    pruning = Prune(model, sgd(model.parameters()), 1, 0.5)
    assert (pruning.pruned, pruning.phase) == ({}, "full")
    pruning.step()
    assert {name: int(mask.sum()) for name, mask in pruning.pruned.items()} == {"features.3": 3, "features.6": 3}
    assert "first_layer=True" in pruning.left_whole["features.0"]
    assert model.features[:4](images()[0]).shape[1] == 3, "the others are not computed"
    pruning.finish()
    assert model.features[:4](images()[0]).shape[1] == 6
    chosen = Prune(model, sgd(model.parameters()), 1, first_layer=True, layers=["features.6", "features.0"])
    assert chosen.step() == "pruned"
    assert list(chosen.pruned) == ["features.0", "features.6"]


class Between(nn.Module):
    """Two convolutions, with a module between them and, if wanted, a sum behind it."""

    def __init__(self, between: nn.Module, added: bool) -> None:
        super().__init__()
        self.stem, self.a, self.between = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1), between
        self.last, self.added = nn.Conv2d(6, 2, 1), added

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.between(self.a(x))
        return self.last(x + y if self.added else y).mean((2, 3))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("between", "keeps_zeros"),
    [
        (nn.Sigmoid(), False),
        (nn.GroupNorm(2, 6, affine=False), False),
        (nn.GroupNorm(2, 6), True),
        (nn.BatchNorm2d(6, affine=False), True),
    ],
    ids=str,
)
@pytest.mark.parametrize("added", [False, True])
def test_what_zeros_do_not_take_away_stays_whole(between: nn.Module, keeps_zeros: bool, added: bool) -> None:
    model = Between(copy.deepcopy(between), added).double()
    optimizer = sgd(model.parameters())
    x = images()[0].double()
    model(x)
    if added and not keeps_zeros:
        with pytest.raises(ValueError, match=r"whose filters may be left out \(a: between makes something else of"):
            Prune(model, optimizer, 1)
        return
    pruning = Prune(model, optimizer, 1)
    pruning.step()
    lean = copy.deepcopy(model)
    pruning.finish()
    for training in (False, True):
        torch.testing.assert_close(model.train(training)(x), lean.train(training)(x), **TIGHT)


def test_weights_that_are_computed_or_shared_read_zeros_and_stay() -> None:
    """Where the channels are 0 by themselves; through steps with momentum and decay, and in what is deployed."""
    computed, shared = vanilla(), vanilla()
    nn.utils.parametrizations.weight_norm(computed.features[6])
    shared.add_module("twin", nn.Linear(*shared.fc.weight.shape[::-1]))
    shared.twin.weight = shared.fc.weight
    for model, reader, pruned in ((computed, computed.features[6], {"0", "3"}), (shared, shared.fc, {"0", "3", "6"})):
        optimizer = sgd(model.parameters())
        pruning = Prune(model, optimizer, 1, first_layer=True)
        pruning.step()
        assert set(pruning.pruned) == {f"features.{n}" for n in pruned}
        images = torch.randn(4, 3, 8, 8)
        for _ in range(3):
            model(images).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        expected = model(images)
        pruning.finish()
        torch.testing.assert_close(model(images), expected)
        assert reader.weight.all(), "all of it goes on to be trained"
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sigmoid(), nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3)))
    with pytest.raises(ValueError, match=r"\(0: it is followed by 2, whose weight is computed, and 1 makes"):
        Prune(model, sgd(model.parameters()), 1, first_layer=True)


class Standardised(nn.Conv2d):
    """A convolution that makes its weight's mean 0, with a gain that starts at 0.

    A column of zeros in the weight is no missing channel.
    """

    def __init__(self, inputs: int, filters: int, size: int) -> None:
        super().__init__(inputs, filters, size)
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, self.gain * weight, self.bias, self.stride, self.padding)


class Padded(nn.Conv2d):
    """A convolution that only pads by itself."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(F.pad(x, (0, 1, 0, 1)))


class Square(nn.Conv2d):
    """A convolution that takes images of 7 pixels a side alone."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).view(-1, 6, 5, 5)


class Doubled(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


def test_channels_that_a_layer_with_a_computation_of_its_own_reads() -> None:
    """They stay whole where zeros in its weight do not stand for channels that are not there."""
    own = "it is followed by 2, whose class may make something else of zeros, and 1 makes something else of zeros"
    for act, made, left in (
        (nn.Softplus(), Standardised(8, 6, 3), f"{own} before that"),
        (nn.ReLU(), Square(8, 6, 3), "they enter 2: its class does more than convolve"),
        (nn.ReLU(), Standardised(8, 6, 3), None),
        (nn.Softplus(), Padded(8, 6, 3), None),
    ):
        ends = (nn.Conv2d(6, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), Doubled(5, 2))
        model = nn.Sequential(nn.Conv2d(3, 8, 3), act, made, nn.ReLU(), *ends)
        before = copy.deepcopy(model.state_dict())
        pruning = Prune(model, sgd(model.parameters()), 1, first_layer=True)
        assert pruning.left_whole.get("0") == left
        assert_same(dict(model.state_dict()), dict(before))
        pruning.step()
        images = torch.randn(2, 3, 9, 9)
        leaner = model(images)
        pruning.finish()
        torch.testing.assert_close(model(images), leaner)
    twins = nn.Sequential(*(nn.Conv2d(8, 8, 3) for _ in range(4)))
    twins[2].bias = twins[1].bias
    pruning = Prune(twins, sgd(twins.parameters()), 1, first_layer=True)
    assert pruning.left_whole["1"].startswith("it shares its bias with another layer, '2'")
    assert pruning.left_whole["2"].startswith("it shares its bias with another layer, '1'")


# --- weights ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
def test_pruned_weights_stay_zero_as_if_set_by_hand(make: Callable[[Any], Optimizer]) -> None:
    model, twin = net(), net()
    optimizer, bare = make(model.parameters()), make(twin.parameters())
    schedules = [lr_scheduler.ExponentialLR(one, 0.9) for one in (optimizer, bare)]
    pruning = Prune(model, optimizer, 2, 0.4, unit="weight")
    events = []
    for epoch in range(4):
        train_net(model, optimizer, STEPS, start=epoch * STEPS)
        schedules[0].step()
        events.append(pruning.step())
    assert events == [None, "pruned", None, None]

    def gradients(n: int) -> None:
        twin.zero_grad()
        loss_on(twin, batch_number(n)).backward()

    by_hand.train_weights(
        twin, bare, schedules[1], gradients, sorted(LAYERS, key=[*dict(model.named_modules())].index),
        after=2, share=0.4, epochs=4, steps=STEPS,
    )  # fmt: skip
    assert_same_run((model, optimizer), (twin, bare))
    weights = [model.get_parameter(f"{name}.weight") for name in LAYERS]
    total = sum(weight.numel() for weight in weights)
    assert sum(int(mask.sum()) for mask in pruning.pruned.values()) == round(0.4 * total)
    others = sum(p.numel() for p in model.parameters()) - total
    assert pruning.parameters_kept == by_hand.count(weights) + others
    before = copy.deepcopy(model.state_dict())
    pruning.finish()
    assert_same(model.state_dict(), before)


def test_only_weights_that_the_optimizer_moves() -> None:
    model = net()
    model.dense.weight.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    pruning = Prune(model, sgd([p for n, p in model.named_parameters() if not n.startswith("up")]), 1, unit="weight")
    pruning.step()
    assert set(LAYERS) - set(pruning.pruned) == {"dense", "up"}
    for name in ("dense.weight", "up.weight"):
        assert torch.equal(model.get_parameter(name), before[name])
    named = Prune(model, sgd(model.parameters()), 1, unit="weight", layers=["fc", "one"])
    named.step()
    assert list(named.pruned) == ["fc", "one"]


# --- both ------------------------------------------------------------------------------------------------


@units
def test_off_is_plain_training_bit_for_bit(unit: Any) -> None:
    model, twin = vanilla(), vanilla()
    optimizer, plain = sgd(model.parameters()), sgd(twin.parameters())
    pruning = Prune(model, optimizer, 1, 0, unit=unit)
    for epoch in range(3):
        train(model, optimizer, STEPS, start=epoch * STEPS)
        assert pruning.step() is None
    pruning.finish()
    train(twin, plain, 3 * STEPS)
    assert_same_run((model, optimizer), (twin, plain))
    assert pruning.parameters_kept == sum(p.numel() for p in model.parameters())
    assert (pruning.phase, pruning.pruned) == ("full", {})


@units
@pytest.mark.parametrize("make", ["momentum", "amsgrad-foreach"])
def test_a_resumed_run_equals_an_uninterrupted_one(unit: Any, make: str) -> None:
    def begin() -> tuple[nn.Module, Optimizer, Prune]:
        model = vanilla()
        optimizer = MAKERS[make](model.parameters())
        return model, optimizer, Prune(model, optimizer, 2, 0.4, unit=unit)

    def go_on(run: tuple[nn.Module, Optimizer, Prune], start: int, stop: int) -> None:
        for epoch in range(start, stop):
            train(run[0], run[1], STEPS, start=epoch * STEPS)
            run[2].step()

    first, files = begin(), {}
    for at in (1, 2, 3):  # before, at and after the event
        go_on(first, at - 1, at)
        files[at] = io.BytesIO()
        torch.save([part.state_dict() for part in first], files[at])
    go_on(first, 3, 4)
    for at, already in product(files, (0, 3)):  # whatever it did before
        resumed = begin()
        go_on(resumed, 0, already)
        files[at].seek(0)
        states = torch.load(files[at])
        for part, state in zip(resumed, states, strict=True):
            part.load_state_dict(state)
        assert_same(resumed[2].state_dict(), states[2])
        go_on(resumed, at, 4)
        assert_same_run(first[:2], resumed[:2])
        assert_same(first[2].state_dict(), resumed[2].state_dict())
        assert first[2].parameters_kept == resumed[2].parameters_kept


@units
def test_steps_that_a_gradient_scaler_leaves_out_and_gradients_that_are_nan(unit: Any) -> None:
    model = vanilla()
    optimizer = Adam(model.parameters(), lr=0.01, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    pruning = Prune(model, optimizer, 1, unit=unit)
    pruning.step()

    def assert_zeros() -> None:
        for name, mask in pruning.pruned.items():
            for tensor in (parameter := model.get_parameter(f"{name}.weight"), *state_of(optimizer, parameter)):
                assert not tensor[mask].any()

    for n, factor in enumerate((1.0, float("inf"), 1.0)):
        x, y = images(n)
        optimizer.zero_grad()
        scaler.scale(F.cross_entropy(model(x), y) * factor).backward()
        scaler.step(optimizer)
        scaler.update()
        assert_zeros()
    for p in model.parameters():
        p.grad = torch.full_like(p, float("nan"))
    optimizer.step()
    assert_zeros()


@units
def test_an_average_that_is_made_after_pruning_has_the_same_zeros(unit: Any) -> None:
    model = vanilla()
    optimizer = sgd(model.parameters())
    pruning = Prune(model, optimizer, 1, unit=unit)
    train(model, optimizer, 2)
    pruning.step()
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
    kept = {n: p != 0 for n, p in model.named_parameters()}
    for n in range(2):
        train(model, optimizer, 1, start=2 + n)
        averaged.update_parameters(model)
    pruning.finish()
    plain = vanilla()
    plain.load_state_dict(averaged.module.state_dict(), strict=True)
    for name, parameter in plain.named_parameters():
        assert not parameter[~kept[name]].any()
    torch.testing.assert_close(plain.eval()(images()[0]), averaged.module.eval()(images()[0]))


def test_a_compiled_network_is_compiled_anew_at_the_events_only() -> None:
    model, plain = vanilla(), vanilla()
    optimizer, other = sgd(model.parameters()), sgd(plain.parameters())
    counter = CompileCounter()
    compiled = torch.compile(model, backend=counter)
    pruning, twin = Prune(compiled, optimizer, 1), Prune(plain, other, 1)
    frames = []
    for epoch in range(3):
        train(compiled, optimizer, 2, start=2 * epoch)
        frames.append(counter.frame_count)
        train(plain, other, 2, start=2 * epoch)
        assert pruning.step() == twin.step()
    assert frames[0] < frames[1] == frames[2]
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, plain.get_parameter(name), rtol=1e-4, atol=1e-5)


@units
def test_finishing(unit: Any) -> None:
    model = vanilla()
    optimizer = sgd(model.parameters())
    pruning = Prune(model, optimizer, 1, unit=unit)
    pruning.step()
    train(model, optimizer, 1)
    pruning.finish()
    pruning.finish()
    assert (pruning.phase, hooks_of(model, optimizer)) == ("sub", 0)
    with pytest.raises(ValueError, match=r"must not be called after finish.*make a new Prune"):
        pruning.step()
    assert not any("_lean" in vars(module) for module in model.modules())
    other = Prune(model, optimizer, 1, unit=unit)
    saved = other.state_dict()
    other.load_state_dict(pruning.state_dict())
    assert (other.phase, other.parameters_kept, hooks_of(model, optimizer)) == ("sub", pruning.parameters_kept, 0)
    other.load_state_dict(saved)
    assert (other.phase, hooks_of(model, optimizer) > 0) == ("full", True)
    with pytest.warns(UserWarning, match=r"nothing was pruned: finish\(\) before the end of epoch 1"):
        other.finish()


@units
def test_rank_0_decides(unit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = vanilla(), vanilla()
    with torch.no_grad():
        for p in second.parameters():
            p.copy_(p.abs().max() - p.abs())  # of another mind
    runs = [Prune(model, sgd(model.parameters()), 1, 0.4, unit=unit) for model in (first, second)]
    sent: list[Tensor] = []
    monkeypatch.setattr("filtersmith.methods.prune.follow_first", lambda mask: sent.append(mask.clone()))
    runs[0].step()
    received = iter(sent)
    monkeypatch.setattr("filtersmith.methods.prune.follow_first", lambda mask: mask.copy_(next(received)))
    runs[1].step()
    assert_same(runs[0].pruned, runs[1].pruned)
    assert len(sent) == len(runs[0].pruned)
    for name, mask in runs[1].pruned.items():
        assert not second.get_parameter(f"{name}.weight")[mask].any()


def tied(model: Vanilla) -> Vanilla:
    model.features[6].weight = model.features[3].weight
    return model


@units
@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (None, {"after": 0}, r"^after must be a whole number of at least 1, got 0$"),
        (None, {"after": 1.5}, r"^after must be a whole number of at least 1, got 1.5$"),
        (None, {"share": 1.0}, r"^share must be a number in \[0, 1\), got 1.0$"),
        (None, {"share": -0.1}, r"^share must be a number in \[0, 1\), got -0.1$"),
        (None, {"share": float("nan")}, r"^share must be"),
        (None, {"unit": "row"}, r"^unit must be one of filter, weight, got 'row'$"),
        (None, {"first_layer": 1}, r"^first_layer must be True or False, got 1$"),
        (None, {"layers": ["features.1"]}, r"^unknown layer 'features.1'"),
        (lambda model: fs.expand(model, fs.KFLO()), {}, r"^layer 'features.0' cannot lose \w+: it is expanded"),
        (lambda model: fs.expand(model, fs.ACNet()), {}, r"^layer 'features.0' cannot lose \w+: it is expanded"),
        (lambda model: nn.ReLU(), {}, r"has no convolution"),
        (lambda model: "net", {}, r"^model must be a torch.nn.Module, got 'str'$"),
    ],
)  # fmt: skip
def test_refusals(unit: Any, change: Any, options: dict[str, Any], message: str) -> None:
    model: Any = change(vanilla()) if change else vanilla()
    optimizer = sgd(model.parameters() if isinstance(model, nn.Module) and [*model.parameters()] else [torch.ones(1)])
    before = copy.deepcopy(model.state_dict()) if isinstance(model, nn.Module) else None
    with pytest.raises(ValueError, match=message) as caught:
        Prune(model, optimizer, **{"unit": unit} | options)
    assert "\n" not in str(caught.value)
    if isinstance(model, nn.Module):
        assert_same(model.state_dict(), before)
        assert hooks_of(model, optimizer) == 0


def test_a_shared_kernel_may_lose_weights_but_no_filters() -> None:
    model = tied(vanilla())
    optimizer = sgd(model.parameters())
    with pytest.raises(
        ValueError, match=r"^layer 'features.3' cannot lose filters: it shares its kernel with another layer"
    ):
        Prune(model, optimizer, 1)
    total = sum(p.numel() for p in model.parameters())
    pruning = Prune(model, optimizer, 1, 0.25, unit="weight")
    pruning.step()
    weights = torch.cat([model.get_parameter(f"{name}.weight").flatten() for name in pruning.pruned])
    assert list(pruning.pruned) == ["features.0", "features.3", "fc"], "a shared one once"
    assert int((weights == 0).sum()) == round(0.25 * len(weights)) == total - pruning.parameters_kept
    pruning.finish()


@units
def test_layers_of_another_optimizer_stay_as_they_are(unit: Any) -> None:
    model = vanilla()
    before = model.features[6].weight.detach().clone()
    pruning = Prune(model, sgd(model.features[3].parameters()), 1, 0.5, unit=unit)
    pruning.step()
    assert list(pruning.pruned) == ["features.3"]
    pruning.finish()
    gone = model.features[6].weight != before
    assert bool(gone.any()) == (unit == "filter"), "only what reads channels that are not there"


def test_a_share_of_nothing_is_told() -> None:
    model = vanilla()
    pruning = Prune(model, sgd(model.parameters()), 1, 0.05)
    with pytest.warns(UserWarning, match=r"^Prune: share=0.05 of so few filters is none: nothing is pruned$"):
        assert pruning.step() == "pruned"
    assert pruning.parameters_kept == sum(p.numel() for p in model.parameters())


def test_other_refusals_and_states_of_another_set_up() -> None:
    model = vanilla()
    optimizer = sgd(model.parameters())
    for layer, reason in (("features.0", "it is the first layer"), ("fc", "it is a linear layer")):
        with pytest.raises(ValueError, match=rf"^layer '{layer}' cannot lose filters: {reason}"):
            Prune(model, optimizer, layers=[layer])
    with pytest.raises(ValueError, match=r"^optimizer must be a torch.optim.Optimizer, got str$"):
        Prune(model, "sgd")
    for unit, count in (("filter", 2), ("weight", 4)):
        with pytest.warns(UserWarning, match=f"Prune: this optimizer has none of its {count} layers"):
            Prune(vanilla(), optimizer, unit=unit)  # type: ignore[arg-type]
    pruning = Prune(model, optimizer, 1)
    state = pruning.state_dict()
    for key, value in (("after", 2), ("share", 0.2), ("unit", "weight"), ("first_layer", True), ("layers", {})):
        with pytest.raises(ValueError, match=f"the state of Prune was saved with {key}={value!r}, this one has"):
            pruning.load_state_dict(state | {"epochs": 5, key: value})
    with pytest.raises(ValueError, match="not a state of Prune: epochs, pruned missing"):
        pruning.load_state_dict({key: state[key] for key in state.keys() - {"epochs", "pruned"}})
    for pruned in ({"features.3": torch.ones(3)}, {"features.0": torch.ones(8, dtype=torch.bool)}):
        with pytest.raises(ValueError, match=r"^not a state of Prune: a mask of shape \(\d,\) for layer 'features"):
            pruning.load_state_dict(state | {"epochs": 5, "pruned": pruned})
    with pytest.raises(ValueError, match=r"^state must be a state_dict of Prune, got int"):
        pruning.load_state_dict(3)  # type: ignore[arg-type]
    assert_same(pruning.state_dict(), state)
