"""DSD against single weights set to 0 by hand, and what section 8.1 of the specification asks of it."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from reference import dsd as by_hand
from reference.nets import (
    CONVOLUTIONS,
    assert_same,
    assert_same_run,
    batch_number,
    hooks_of,
    loss_of,
    net,
    train,
)
from torch import Tensor, nn
from torch.optim import LBFGS, SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop, lr_scheduler

import filtersmith as fs
from filtersmith.methods.dsd import DSD
from filtersmith.pruning.magnitude import smallest

LAYERS = [*CONVOLUTIONS, "fc"]
STEPS = 2  # of each epoch


class DecayingByRate(SGD):
    """A user's own optimizer, as many are written: torch runs the hooks for both steps."""

    def step(self, closure: Any = None) -> Any:
        out = super().step(closure)
        with torch.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    p.mul_(1 - group["lr"])
        return out


MAKERS: dict[str, Callable[[Any], Optimizer]] = {
    "momentum": lambda p: SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-2),
    "nesterov-foreach": lambda p: SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-2, foreach=True),
    "adam": lambda p: Adam(p, lr=0.01, weight_decay=1e-2, foreach=False),
    "adam-fused": lambda p: Adam(p, lr=0.01, fused=True),
    "adam-tensor-lr": lambda p: Adam(p, lr=torch.tensor(0.01), foreach=False),
    "amsgrad-foreach": lambda p: AdamW(p, lr=0.01, amsgrad=True, foreach=True),
    "rmsprop": lambda p: RMSprop(p, lr=0.01, momentum=0.9, centered=True),
    "adagrad": lambda p: Adagrad(p, lr=0.05, initial_accumulator_value=0.1),
    "subclass": lambda p: DecayingByRate(p, lr=0.1, momentum=0.9),
}
optimizers = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


def sgd(params: Any) -> Optimizer:
    return MAKERS["momentum"](params)


def scheduled(optimizer: Optimizer) -> lr_scheduler.LRScheduler:
    return lr_scheduler.ExponentialLR(optimizer, 0.9)  # multiplies what it finds in the groups


def gradients(model: nn.Module, n: int) -> None:
    model.zero_grad()
    loss_of(model, batch_number(n)).backward()


def state_of(optimizer: Optimizer, weight: Tensor) -> list[Tensor]:
    values = optimizer.state.get(weight, {}).values()
    return [v for v in values if isinstance(v, Tensor) and v.shape == weight.shape]


def assert_masked(dsd: DSD, model: nn.Module, optimizer: Optimizer, share: float) -> None:
    """The exact sparsity of each layer, and nothing behind it."""
    for name, mask in dsd.pruned.items():
        weight = model.get_submodule(name).weight
        assert int(mask.sum()) == round(share * weight.numel())
        assert mask.shape == weight.shape
        assert not weight[mask].any()
        for tensor in state_of(optimizer, weight):
            assert (tensor[mask] == optimizer.defaults.get("initial_accumulator_value", 0)).all()


@optimizers
def test_the_whole_run_equals_one_by_hand(make: Callable[[Any], Optimizer]) -> None:
    model, twin = net(), net()
    optimizer, bare = make(model.parameters()), make(twin.parameters())
    scheduler = scheduled(optimizer)
    options: dict[str, Any] = {"s1": 2, "s2": 1, "cycles": 2, "prune": 0.4, "lr_factor": 0.25}
    dsd = DSD(model, optimizer, **options)
    events, phases = [], []
    for epoch in range(8):
        phases.append(dsd.phase)
        for step in range(STEPS):
            gradients(model, epoch * STEPS + step)
            optimizer.step()
            assert set(dsd.pruned) == (set(LAYERS) if dsd.phase == "sub" else set())
            assert_masked(dsd, model, optimizer, 0.4)
        scheduler.step()
        events.append(dsd.step())
    assert events == [None, "pruned", "restored", None, "pruned", "restored", None, None]
    assert phases == ["full", "full", "sub", "full", "full", "sub", "full", "full"]
    by_hand.train(twin, bare, scheduled(bare), lambda n: gradients(twin, n), LAYERS, epochs=8, steps=STEPS, **options)
    assert_same_run((model, optimizer), (twin, bare))
    assert len(optimizer.param_groups) == 1


def test_masks_are_made_from_the_weights_and_everything_else_stays() -> None:
    model = net()
    optimizer = MAKERS["adam"](model.parameters())
    dsd = DSD(model, optimizer, s1=1, s2=1, prune=0.3, layers=["up", "fc"])
    train(model, optimizer, 2)
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()["state"]))
    assert dsd.step() == "pruned"
    for name, position in (("up.weight", None), ("fc.weight", None)):
        parameter = model.get_parameter(name)
        position = [p is parameter for p in model.parameters()].index(True)
        masked = dsd.pruned[name.removesuffix(".weight")]
        assert torch.equal(masked, smallest(before[0][name], 0.3))
        for tensor in (before[0][name], before[1][position]["exp_avg"], before[1][position]["exp_avg_sq"]):
            assert tensor[masked].any()
            tensor[masked] = 0
    assert_same(model.state_dict(), before[0])
    assert_same(optimizer.state_dict()["state"], before[1])
    assert dsd.step() == "restored"
    assert_same(model.state_dict(), before[0])
    train(model, optimizer, 1)
    assert (model.fc.weight != 0).all(), "no mask afterwards"


@pytest.mark.parametrize("off", [{"prune": 0.0}, {"cycles": 0}])
def test_off_is_plain_training_bit_for_bit(off: dict[str, Any]) -> None:
    model, twin = net(), net()
    optimizer, plain = sgd(model.parameters()), sgd(twin.parameters())
    dsd = DSD(model, optimizer, **{"s1": 1, "s2": 1, "cycles": 1} | off)
    for n in range(4):
        train(model, optimizer, 1, start=n)
        dsd.step()
    train(twin, plain, 4)
    assert_same_run((model, optimizer), (twin, plain))


@optimizers
def test_a_resumed_run_equals_an_uninterrupted_one(make: Callable[[Any], Optimizer]) -> None:
    def begin() -> tuple[nn.Module, Optimizer, Any, DSD]:
        model = net()
        optimizer = make(model.parameters())
        return model, optimizer, scheduled(optimizer), DSD(model, optimizer, 2, 1, 2, prune=0.5)

    def go_on(run: tuple[nn.Module, Optimizer, Any, DSD], start: int, stop: int) -> None:
        model, optimizer, scheduler, dsd = run
        for epoch in range(start, stop):
            train(model, optimizer, STEPS, start=epoch * STEPS)
            scheduler.step()
            dsd.step()

    first, files = begin(), {}
    for start, at in ((0, 2), (2, 3), (3, 5)):  # in the sub-network, in the full one, in the second sub-network
        go_on(first, start, at)
        files[at] = io.BytesIO()
        torch.save([part.state_dict() for part in first], files[at])
    go_on(first, 5, 7)
    for at, file in files.items():
        file.seek(0)
        states = torch.load(file)
        resumed = begin()
        go_on(resumed, 0, 3)  # whatever it did before
        for part, state in zip(resumed, states, strict=True):
            part.load_state_dict(state)
        assert_same(resumed[3].state_dict(), states[3])
        go_on(resumed, at, 7)
        assert_same_run(first[:2], resumed[:2])
        assert_same(first[3].state_dict(), resumed[3].state_dict())


@pytest.mark.parametrize("rate", [0.5, 1, torch.tensor(0.5)], ids=["float", "int", "tensor"])
def test_schedulers_see_the_very_learning_rates_that_they_set(rate: Any) -> None:
    model = net()
    optimizer = Adam(
        [
            {"params": model.dense.parameters()},
            {"params": model.up.parameters()},
            {"params": model.fc.parameters(), "lr": 0.3},
        ],
        lr=rate,
        foreach=False,
    )
    dsd = DSD(model, optimizer, 1, 1, 1, layers=["dense", "up", "fc"])
    seen: list[list[float]] = []
    optimizer.register_step_pre_hook(lambda o, *_: seen.append([float(g["lr"]) for g in o.param_groups]))
    objects, values = [g["lr"] for g in optimizer.param_groups], [float(g["lr"]) for g in optimizer.param_groups]
    for n in range(4):
        train(model, optimizer, 1, start=n)
        assert all(g["lr"] is lr for g, lr in zip(optimizer.param_groups, objects, strict=True))
        assert [float(g["lr"]) for g in optimizer.param_groups] == values
        dsd.step()
    slow = [pytest.approx(0.1 * value) for value in values]
    assert seen == [values, values, slow, slow]


def test_a_step_that_raises_does_not_leave_the_smaller_rate() -> None:
    model = net()
    optimizer = sgd(model.parameters())
    dsd = DSD(model, optimizer, 1, 1, 1)
    dsd.step()
    dsd.step()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            optimizer.step(lambda: 1 / 0)
    train(model, optimizer, 1)
    assert optimizer.param_groups[0]["lr"] == 0.1
    with pytest.raises(ZeroDivisionError):
        optimizer.step(lambda: 1 / 0)
    dsd.finish()
    assert optimizer.param_groups[0]["lr"] == 0.1


@pytest.mark.parametrize("fused", [False, True])
def test_steps_that_a_gradient_scaler_leaves_out_and_gradients_that_are_nan(fused: bool) -> None:
    model = net()
    optimizer = Adam(model.parameters(), lr=0.01, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    dsd = DSD(model, optimizer, 1, 9, prune=0.5)
    dsd.step()
    for n, factor in enumerate((1.0, float("inf"), 1.0)):
        optimizer.zero_grad()
        scaler.scale(loss_of(model, batch_number(n)) * factor).backward()
        scaler.step(optimizer)
        scaler.update()
        assert_masked(dsd, model, optimizer, 0.5)
    for p in model.parameters():
        p.grad = torch.full_like(p, float("nan"))
    optimizer.step()
    assert_masked(dsd, model, optimizer, 0.5)


def test_lbfgs_ends_each_step_with_zeros() -> None:
    model = net()
    optimizer = LBFGS(model.parameters(), lr=0.1, max_iter=2)
    dsd = DSD(model, optimizer, 1, 9)
    dsd.step()

    def closure() -> Tensor:
        gradients(model, 0)
        return loss_of(model, batch_number(0))

    optimizer.step(closure)
    assert_masked(dsd, model, optimizer, 0.3)


def test_frozen_foreign_and_shared_weights() -> None:
    model = net()
    model.dense.weight.requires_grad_(False)
    tied = nn.Conv2d(5, 1, 1)
    tied.weight = model.one.weight
    model.add_module("tied", tied)
    before = copy.deepcopy(model.state_dict())
    mine = [p for name, p in model.named_parameters() if not name.startswith("up")]
    dsd = DSD(model, sgd(mine), 1, 1)
    dsd.step()
    assert list(dsd.pruned) == [name for name in LAYERS if name not in ("dense", "up")]
    for name in ("dense.weight", "up.weight"):
        assert torch.equal(model.get_parameter(name), before[name])
    with pytest.warns(UserWarning, match="DSD: this optimizer has none of its 7 layers"):
        DSD(net(), sgd(model.parameters()))


def test_finish_takes_everything_away() -> None:
    for epochs in (0, 1, 2):
        model = net()
        optimizer = sgd(model.parameters())
        dsd = DSD(model, optimizer, 1, 1)
        for _ in range(epochs):
            dsd.step()
        dsd.finish()
        dsd.finish()
        assert (dsd.phase, dsd.pruned, hooks_of(model, optimizer)) == ("full", {}, 0)
        with pytest.raises(ValueError, match=r"must not be called after finish.*make a new DSD"):
            dsd.step()
        other = DSD(model, optimizer, 1, 1)
        at_work = hooks_of(model, optimizer)
        other.step()
        saved = other.state_dict()
        other.load_state_dict(dsd.state_dict())
        assert (other.phase, other.pruned, hooks_of(model, optimizer)) == ("full", {}, 0)
        other.load_state_dict(saved)
        assert (other.phase, len(other.pruned), hooks_of(model, optimizer)) == ("sub", 7, at_work)


def test_what_it_cannot_do_is_refused_and_nothing_changes() -> None:
    model = net()
    optimizer = sgd(model.parameters())
    for options, message in (
        ({"s1": 0}, "s1 must be a whole number of at least 1, got 0"),
        ({"s2": 1.5}, "s2 must be a whole number of at least 1, got 1.5"),
        ({"cycles": -1}, "cycles must be a whole number of at least 0, got -1"),
        ({"prune": 1}, r"prune must be a number in \[0, 1\), got 1"),
        ({"prune": float("nan")}, r"prune must be a number in \[0, 1\), got nan"),
        ({"lr_factor": 0}, r"lr_factor must be a number in \(0, 1\], got 0"),
        ({"layers": ["bn"]}, "unknown layer 'bn'"),
    ):
        with pytest.raises(ValueError, match=message):
            DSD(model, optimizer, **options)
    with pytest.raises(ValueError, match=r"optimizer must be a torch.optim.Optimizer, got str"):
        DSD(model, "sgd")
    with pytest.raises(ValueError, match=r"^Sequential has no convolution and no linear layer$"):
        DSD(nn.Sequential(nn.ReLU()), optimizer)
    with pytest.raises(ValueError, match="layer 'dense' cannot lose weights: it is expanded"):
        DSD(fs.expand(net(), fs.KFLO(), layers=["dense"]), optimizer)
    for method in (fs.DOConv(), fs.ACNet()):
        with pytest.raises(ValueError, match="leave it out with layers="):
            DSD(fs.expand(net(), method), optimizer)
    assert hooks_of(model, optimizer) == 0

    dsd = DSD(model, optimizer)
    state = dsd.state_dict()
    for key, value in (("s2", 7), ("prune", 0.2), ("lr_factor", 1.0), ("layers", {})):
        with pytest.raises(ValueError, match=f"the state of DSD was saved with {key}={value!r}"):
            dsd.load_state_dict(state | {"epoch": 5, key: value})
    with pytest.raises(ValueError, match="not a state of DSD: epoch, pruned missing"):
        dsd.load_state_dict({key: state[key] for key in state.keys() - {"epoch", "pruned"}})
    assert_same(dsd.state_dict(), state)
