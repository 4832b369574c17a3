"""What every method owes its users. A method without an entry in SETTINGS fails."""

from __future__ import annotations

import copy
import inspect
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from reference.flow import restarts
from reference.nets import assert_same, batches, hooks_of, net, repeating, train, train_step
from torch import nn
from torch.optim import SGD, Optimizer, lr_scheduler

import filtersmith as fs
from filtersmith import METHODS

EPOCHS = 2  # of a phase; runs are 3 phases long, whatever the method
STEPS = 2  # of an epoch


def make_optimizer(params: Any) -> Optimizer:
    return SGD(params, lr=0.1, momentum=0.9, weight_decay=1e-2)


def make_scheduler(optimizer: Optimizer) -> lr_scheduler.LRScheduler:
    return lr_scheduler.StepLR(optimizer, 1, gamma=0.5)


def attached(name: str, model: nn.Module, optimizer: Optimizer, **options: Any) -> Any:
    """A step mask or control, which goes on the optimizer before its schedule is made."""
    return METHODS[name].cls(model, **options).attach(optimizer)


def flow_with_rate(name: str, model: nn.Module, optimizer: Optimizer, rate: float = 0.5, **options: Any) -> Any:
    """A flow whose phases follow from the mask's rate."""
    options = {"epochs": EPOCHS, "scheduler": make_scheduler} | options
    return METHODS[name].cls(fs.WAU(model, rate=rate), optimizer, **options)


def flow_with_rates(name: str, model: nn.Module, optimizer: Optimizer, rates: Any, **options: Any) -> Any:
    """A flow that is told its phases."""
    phases = [(rate, EPOCHS) for rate in rates]
    return METHODS[name].cls(phases, fs.WAU(model), optimizer, **{"scheduler": make_scheduler} | options)


def expanded(name: str, model: nn.Module, optimizer: Optimizer | None, **options: Any) -> Any:
    """A re-parametrization, which takes no optimizer: its factors are trained by one that is made afterwards."""
    fs.expand(model, METHODS[name].cls(**options))
    return Stateless()


def cyclic(name: str, model: nn.Module, optimizer: Optimizer, **options: Any) -> Any:
    """Surgery by the epoch, beside the schedule."""
    return METHODS[name].cls(model, optimizer, **options)


def changed(name: str, model: nn.Module, optimizer: Optimizer | None, **options: Any) -> Any:
    """Surgery before everything else, on the network that is deployed."""
    METHODS[name].cls(model, **options)
    return Stateless()


def in_the_loss(name: str, model: nn.Module, optimizer: Optimizer, **options: Any) -> Any:
    """A term that is added to the loss."""
    return METHODS[name].cls(model, **options)


class Stateless:
    """What is left of a change of the network to save: nothing, the network holds everything."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert not state


@dataclass(frozen=True)
class Setting:
    """How the contract makes a method.

    Attributes:
        make: from (name, model, optimizer, **options).
        on: options with which it does something.
        bad: options out of range, each of which must be refused by name.
        network: what it is tried on.
    """

    make: Callable[..., Any]
    on: dict[str, Any] = field(default_factory=dict)
    bad: tuple[dict[str, Any], ...] = ()
    network: Callable[..., nn.Module] = net


BAD_RATES: tuple[dict[str, Any], ...] = ({"rate": 0.0}, {"rate": 1.5}, {"rate": -0.5}, {"rate": "half"})
BAD_CYCLES: tuple[dict[str, Any], ...] = (
    *({"s1": 0}, {"s2": 1.5}, {"cycles": -1}),
    *({"prune": 1.0}, {"prune": -0.1}, {"prune": "half"}),
)
BAD_EPOCHS: tuple[dict[str, Any], ...] = ({"epochs": 0}, {"epochs": 1.5})

SETTINGS: dict[str, Setting] = {
    "wau": Setting(
        attached,
        {"rate": 0.5, "seed": 1},
        (*BAD_RATES, {"unit": "row"}, {"draw": "twice"}, {"seed": 0.5}, {"layers": "dense"}, {"layers": ()}),
    ),
    "asa": Setting(flow_with_rate, {"rate": 0.5}, (*BAD_RATES, *BAD_EPOCHS, {"scheduler": "cosine"})),
    "sas": Setting(flow_with_rate, {"rate": 0.5}, (*BAD_RATES, *BAD_EPOCHS, {"scheduler": "cosine"})),
    "flow": Setting(flow_with_rates, {"rates": (0.3, 1.0, 0.7)}, ({"rates": ()}, {"rates": (0.5, 0.0)})),
    "conv-lr": Setting(attached, {"rate": 0.5}, (*BAD_RATES, {"layers": "dense"})),
    "kflo": Setting(
        expanded,
        {"depth": 2, "width": 2},
        ({"depth": 1}, {"depth": 2.5}, {"width": 0}, {"width": "wide"}, {"init": "dirac"}),
    ),
    "do-conv": Setting(expanded, {"d_mul": 9}, ({"d_mul": 0}, {"d_mul": 4.5})),
    "acnet": Setting(expanded),
    "dbb": Setting(expanded),
    "repr": Setting(
        cyclic,
        {"s1": 2, "s2": 1, "cycles": 2, "seed": 1},
        (*BAD_CYCLES, {"scale": 0.0}, {"reinit": "dirac"}, {"reinit_next": "large"}, {"keep_min": 0}, {"seed": 0.5}),
    ),
    "dsd": Setting(
        cyclic,
        {"s1": 2, "s2": 1, "cycles": 2},
        (*BAD_CYCLES, {"lr_factor": 0.0}, {"lr_factor": 2}, {"layers": "dense"}),
    ),
    "prune": Setting(
        cyclic,
        {"after": 1, "share": 0.4},
        (
            *({"after": 0}, {"after": 1.5}, {"share": 1.0}, {"share": -0.1}, {"share": "half"}),
            *({"unit": "row"}, {"first_layer": 1}, {"layers": "dense"}),
        ),
    ),
    "ortho-loss": Setting(
        in_the_loss,
        {"weight": 0.1},
        ({"weight": -1.0}, {"weight": float("inf")}, {"weight": "big"}, {"layers": "dense"}),
    ),
    "dacnn": Setting(changed, {"scope": "network"}, ({"scope": "layer"}, {"scope": 3}), repeating),
    "regulators": Setting(changed, {"sections": "all"}, ({"sections": "last"}, {"sections": 0}), repeating),
    "ema": Setting(attached, {"decay": 0.5}, ({"decay": 1.0}, {"decay": -0.1}, {"decay": "slow"})),
}

SHOWN_AS = {"rates": "phases|rate"}
"""Options that go by another name in the class itself."""

methods = pytest.mark.parametrize("name", METHODS)
REPARAM = [name for name, method in METHODS.items() if method.kind == "re-parametrization"]
CHANGED = [name for name, method in METHODS.items() if not method.same_network]
BEFOREHAND = [*REPARAM, *CHANGED]
"""Before the optimizer is made; there is nothing to switch off or detach."""


class Run:
    """Training with a method, as its kind asks for."""

    def __init__(self, name: str, options: dict[str, Any], seed: int = 0) -> None:
        self.model = SETTINGS[name].network(seed)
        self.kind = METHODS[name].kind
        if name in BEFOREHAND:
            self.method = SETTINGS[name].make(name, self.model, None, **options)
        self.optimizer = make_optimizer(fs.param_groups(self.model, 1e-2))
        if name not in BEFOREHAND:
            self.method = SETTINGS[name].make(name, self.model, self.optimizer, **options)
        self.flow = self.kind == "flow"
        self.scheduler = None if self.flow else make_scheduler(self.optimizer)
        self.epoch = 0

    def train(self, epochs: int) -> Run:
        for _ in range(epochs):
            penalty = self.method if self.kind == "loss" else None
            train(self.model, self.optimizer, STEPS, start=self.epoch * STEPS, penalty=penalty)
            (self.method if self.scheduler is None else self.scheduler).step()
            if self.kind in ("cycle", "pruning"):
                self.method.step()
            self.epoch += 1
        return self

    def detach(self) -> None:
        if self.kind in ("cycle", "pruning"):
            self.method.finish()
        elif self.kind != "loss":  # that leaves nothing anywhere
            (self.method._wau if self.flow else self.method).detach()

    @property
    def deployed(self) -> nn.Module:
        """What the record says is deployed."""
        if self.kind in ("cycle", "pruning"):
            self.method.finish()
        return fs.collapse(self.method.network if self.kind == "average" else self.model)

    def parts(self) -> list[Any]:
        return [self.model, self.optimizer, self.method, *([] if self.scheduler is None else [self.scheduler])]

    def remembered(self) -> list[Any]:
        """What the optimizer keeps of each weight, in the order of the weights and not of its groups."""
        return [self.optimizer.state.get(p, {}) for p in self.model.parameters()]


def test_every_method_is_under_contract() -> None:
    assert set(SETTINGS) == set(METHODS)
    for name, setting in SETTINGS.items():
        takes_options = bool(inspect.signature(METHODS[name].cls).parameters)
        assert bool(setting.on) == takes_options, f"{name}: options with which it does something"
        assert bool(setting.bad) == takes_options, f"{name}: options that it refuses"


@methods
def test_the_record_is_complete(name: str) -> None:
    record = METHODS[name]
    assert record.name == name == name.lower().replace("_", "-")
    assert getattr(fs, record.cls.__name__) is record.cls, "a public name"
    assert record.cls.__name__ in fs.__all__
    assert record.paper
    assert record.summary
    assert "\n" not in record.summary
    assert bool(record.off) == (name not in BEFOREHAND)
    assert (record.kind == "architecture") == (name in CHANGED)
    with pytest.raises(AttributeError):
        record.name = "other"  # type: ignore[misc]


@methods
def test_the_card_tells_what_there_is_to_know(name: str) -> None:
    card = METHODS[name].card
    assert card.splitlines()[0].endswith(".")
    source = "**Source.**" if "**Source.**" in card else "**Paper.**"
    position = 0
    for heading in (source, "**What it does.**", "**When to call it.**", "**Options.**", "**Compatibility.**"):
        assert card.count(heading) == 1, heading
        text = card.split(heading)[1].split("\n**")[0].strip()
        assert len(text) > 20, f"{heading} says nothing"
        assert card.index(heading) > position, f"{heading} is out of order"
        position = card.index(heading)
    assert f"fs.{METHODS[name].cls.__name__}" in card, "how it is called"


@methods
def test_the_deployed_network_is_the_plain_one_or_what_the_method_makes_of_it(name: str) -> None:
    run = Run(name, SETTINGS[name].on).train(3 * EPOCHS)
    plain = SETTINGS[name].network(1)
    if name in CHANGED:
        size = sum(p.numel() for p in plain.parameters())
        SETTINGS[name].make(name, plain, None, **SETTINGS[name].on)
        assert size != sum(p.numel() for p in plain.parameters())
    ours = run.deployed.state_dict()
    assert {k: (v.shape, v.dtype) for k, v in ours.items()} == {
        k: (v.shape, v.dtype) for k, v in plain.state_dict().items()
    }
    plain.load_state_dict(ours, strict=True)
    images = next(batches())[0]
    assert_same(plain.eval()(images), run.deployed.eval()(images))
    assert type(run.deployed) is type(plain)
    if run.kind == "re-parametrization":
        torch.testing.assert_close(plain(images), run.model.eval()(images), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in METHODS if name not in BEFOREHAND])
def test_switched_off_it_is_plain_training_bit_for_bit(name: str) -> None:
    off = Run(name, dict(METHODS[name].off)).train(3 * EPOCHS)
    plain = net()
    if off.flow:
        restarts(
            plain,
            make_optimizer,
            make_scheduler,
            lambda m, o, epoch: train(m, o, STEPS, start=epoch * STEPS),
            [EPOCHS] * 3,
        )
    else:
        optimizer = make_optimizer(plain.parameters())
        scheduler = make_scheduler(optimizer)
        for epoch in range(3 * EPOCHS):
            train(plain, optimizer, STEPS, start=epoch * STEPS)
            scheduler.step()
        assert_same(off.remembered(), [optimizer.state[p] for p in plain.parameters()])
    assert_same(off.deployed.state_dict(), plain.state_dict())

    on = Run(name, SETTINGS[name].on).train(3 * EPOCHS)
    assert not torch.equal(on.deployed.dense.weight, plain.dense.weight), "switched on it does nothing"


@pytest.mark.parametrize("name", REPARAM)
def test_expanded_it_trains_otherwise_than_the_plain_network(name: str) -> None:
    ours, plain = Run(name, SETTINGS[name].on).train(1), net()
    optimizer = make_optimizer(plain.parameters())
    train(plain, optimizer, STEPS)
    assert not torch.allclose(ours.deployed.dense.weight, plain.dense.weight)
    assert sum(p.numel() for p in ours.model.parameters()) > sum(p.numel() for p in plain.parameters())


@methods
@pytest.mark.parametrize("epochs", [1, EPOCHS, EPOCHS + 1, 3 * EPOCHS - 1])
def test_a_resumed_run_equals_an_uninterrupted_one(name: str, epochs: int) -> None:
    run = Run(name, SETTINGS[name].on).train(epochs)
    file = io.BytesIO()
    torch.save([part.state_dict() for part in run.parts()], file)
    run.train(3 * EPOCHS - epochs)

    resumed = Run(name, SETTINGS[name].on, seed=1)
    file.seek(0)
    for part, state in zip(resumed.parts(), torch.load(file), strict=True):
        part.load_state_dict(state)
    resumed.epoch = epochs
    resumed.train(3 * EPOCHS - epochs)

    assert_same(resumed.model.state_dict(), run.model.state_dict())
    assert_same(resumed.remembered(), run.remembered())
    for ours, theirs in zip(resumed.parts(), run.parts(), strict=True):
        assert_same(ours.state_dict(), theirs.state_dict())


@pytest.mark.parametrize("name", [name for name in METHODS if name not in BEFOREHAND])
def test_detaching_leaves_nothing_behind(name: str) -> None:
    run = Run(name, SETTINGS[name].on).train(1)
    run.detach()
    assert hooks_of(run.model, run.optimizer) == 0
    assert len(run.optimizer.param_groups) == 1
    assert {id(p) for p in run.optimizer.param_groups[0]["params"]} == {id(p) for p in run.model.parameters()}
    assert not any(nn.utils.parametrize.is_parametrized(module) for module in run.model.modules())

    plain = copy.deepcopy(run.model)  # and trains on like any other
    optimizer = make_optimizer(plain.parameters())
    optimizer.load_state_dict(copy.deepcopy(run.optimizer.state_dict()))
    for model, stepped in ((run.model, run.optimizer), (plain, optimizer)):
        train_step(model, stepped, next(batches()))
    assert_same(run.model.state_dict(), plain.state_dict())


@pytest.mark.parametrize(
    ("name", "bad"), [(name, bad) for name, setting in SETTINGS.items() for bad in setting.bad], ids=str
)
def test_a_bad_option_names_itself_and_changes_nothing(name: str, bad: dict[str, Any]) -> None:
    model = SETTINGS[name].network()
    optimizer = make_optimizer(model.parameters())
    before = copy.deepcopy([model.state_dict(), optimizer.state_dict()])
    ((option, value),) = bad.items()
    names = SHOWN_AS.get(option, option)
    with pytest.raises(ValueError, match=rf"^({names})\b") as caught:
        SETTINGS[name].make(name, model, optimizer, **(SETTINGS[name].on | bad))
    message = str(caught.value)
    assert "\n" not in message
    assert "must be" in message
    if option == "scheduler":
        assert type(value).__name__ in message
    else:
        shown = [value] if not isinstance(value, tuple) else [*value, []]
        assert any(message.endswith(f"got {part!r}") for part in shown), message
    assert_same([model.state_dict(), optimizer.state_dict()], before)
    assert hooks_of(model, optimizer) == 0
