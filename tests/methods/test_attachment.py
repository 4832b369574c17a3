"""Methods at work: somebody's own class is told of everything by name; what fails leaves no trace."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import pytest
import torch
from reference.nets import assert_same, hooks_of
from reference.wrappers import SHARED
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import ExponentialLR, LRScheduler

import filtersmith as fs
from filtersmith import METHODS
from filtersmith.common.phases import Phase
from filtersmith.methods.composition import Composition, compose
from filtersmith.optim.groups import levels_with_groups

NAMED = {
    "scaled": "Scaled",
    "told": "Told",
    "early": "Told",
    "late": "Told",
    "average": "Average",
    "broken": "Broken",
    "timed": "Timed",
    "bound": "Bound",
    "prepared": "Prepared",
}


class Told:
    """Writes down what it is told, and the calls of all."""

    log: ClassVar[list[str]] = []
    says: ClassVar[list[Any]] = []

    def __init__(
        self, model: nn.Module, optimizer: Any, epochs: int, seed: int, held_out: Any, mark: str = ""
    ) -> None:
        self.given = {"model": model, "optimizer": optimizer, "epochs": epochs, "seed": seed, "held_out": held_out}
        self.mark = mark
        Told.log.append(f"made {mark}")

    def attach(self, *, useful_epochs: int, scheduler: Any = None) -> None:
        self.given |= {"useful_epochs": useful_epochs, "scheduler": scheduler}
        Told.log.append(f"attached {self.mark}")

    def end_batch(self) -> None:
        Told.log.append(f"batch {self.mark}")

    def step(self) -> Any:
        Told.log.append(f"epoch {self.mark}")
        return Told.says.pop(0) if Told.says else None

    def detach(self) -> None:
        Told.log.append(f"detached {self.mark}")


class Scaled:
    """A class that takes part in all of it: changes the network, trains a scale, adds a penalty, deploys a copy."""

    deployable = False

    def __init__(self, strength: float = 2.0) -> None:
        self.strength = strength
        self.scale = nn.Parameter(torch.ones(()))
        self.batches = self.epochs = 0
        self.finished = 0

    def prepare(self, model: nn.Module) -> nn.Module:
        return nn.Sequential(*model, nn.ReLU())

    def parameters(self) -> list[nn.Parameter]:
        return [self.scale]

    def attach(self, model: nn.Module) -> None:
        self.network = copy.deepcopy(model)

    def penalty(self, labels: Any, images: Any) -> Any:
        return self.strength * self.scale * (images.mean() + labels.sum())

    def end_batch(self) -> None:
        self.batches += 1

    def step(self) -> str:
        self.epochs += 1
        return "pruned"

    def finish(self) -> None:
        self.finished += 1

    def state_dict(self) -> dict[str, Any]:
        return {"batches": self.batches, "epochs": self.epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.batches, self.epochs = state["batches"], state["epochs"]


class Average:
    network: Any = None

    def __init__(self, model: nn.Module, optimizer: Any) -> None:
        self.network = nn.Identity()
        Told.log.append("made average")


class Broken:
    """Fails when it is attached, or when it goes on from a state, as long as it is told to."""

    fails: ClassVar[bool] = True

    def __init__(self, model: nn.Module) -> None:
        self.hook: Any = None

    def attach(self, optimizer: Any) -> None:
        (optimizer[0] if isinstance(optimizer, list) else optimizer).param_groups[0]["lr"] *= 3
        self.hook = model_hook(optimizer)
        if Broken.fails:
            raise ValueError("not on this one")

    def detach(self) -> None:
        self.hook.remove()

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Any) -> None:
        if state:
            raise ValueError("not a state of mine")


def model_hook(optimizer: Any) -> Any:
    first: Optimizer = optimizer[0] if isinstance(optimizer, list) else optimizer
    return first.register_step_post_hook(lambda *_: None)


class Timed:
    def __init__(self, model: nn.Module, optimizer: Any, ends: str = "sub") -> None:
        self.ends = ends

    def timeline(self, epochs: int) -> list[Phase]:
        if self.ends == "never":
            raise ValueError("epochs must be above 9")
        return [Phase("full", 0, 1), Phase("sub", 1, epochs - 1), Phase("full", epochs - 1, epochs)]


class Bound:
    """Of an optimizer alone."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer

    def penalty(self) -> Any:
        return self.optimizer


class Prepared:
    """Made of the network when that is prepared, attached later."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def prepare(self, model: nn.Module) -> None: ...

    def attach(self, model: nn.Module) -> None:
        assert self.model is model


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    Told.log.clear()
    Told.says.clear()
    monkeypatch.setattr(Broken, "fails", True)
    for name, cls in NAMED.items():
        monkeypatch.setitem(METHODS._read(), name, fs.Method(name, "s", "p", globals()[cls]))


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.Flatten(), nn.Linear(96, 2))


def sgd(model: nn.Module) -> SGD:
    return SGD(model.parameters(), lr=0.1, momentum=0.9)


def halving(optimizer: Optimizer) -> LRScheduler:
    return ExponentialLR(optimizer, 0.5)


def attached(text: str, epochs: int = 4, **options: Any) -> tuple[nn.Sequential, SGD, Composition]:
    training, model = compose(text), network()
    optimizer = sgd(model)
    training.attach(model, optimizer, epochs=epochs, **options)
    return model, optimizer, training


def step(model: nn.Module, optimizer: Optimizer, n: int = 0) -> None:
    optimizer.zero_grad()
    model(torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(n))).square().sum().backward()
    optimizer.step()


def trace_of(model: nn.Module, optimizers: list[Any]) -> Any:
    """All that attaching could leave behind."""
    state = [copy.deepcopy(optimizer.state_dict()) for optimizer in optimizers]
    return [copy.deepcopy(model.state_dict()), state, [hooks_of(model, optimizer) for optimizer in optimizers]]


# --- somebody's own class -------------------------------------------------------------------------------------


def test_what_a_class_is_given_by_name() -> None:
    batches = [(torch.ones(1), torch.ones(1))]
    training, model = compose("told(mark=x)"), network()
    optimizers = [SGD(model[:2].parameters(), lr=0.1), SGD(model[2:].parameters(), lr=0.1)]
    training.attach(model, optimizers, epochs=9, seed=5, scheduler=halving, held_out=batches)
    (part,) = training._attached().parts
    expected = {"model": model, "optimizer": optimizers, "epochs": 9, "seed": 5, "held_out": batches}
    assert part.made.given.keys() == expected.keys() | {"useful_epochs", "scheduler"}
    assert all(part.made.given[name] is value for name, value in expected.items())
    assert part.made.given["useful_epochs"] == 3, "1, 0.5, 0.25 and 0.125 of the rate"
    assert part.made.given["scheduler"] is halving
    assert (part.made.mark, compose("told").schedule_epochs(7)) == ("x", 7)


def test_a_class_that_takes_part_in_everything() -> None:
    training, plain = compose("scaled(3)"), network()
    model = training.prepare(plain)
    assert isinstance(model[5], nn.ReLU)
    groups = training.param_groups(model, 0.1)
    assert groups[-1]["weight_decay"] == 0.1
    (scale,) = groups[-1]["params"]
    with pytest.raises(ValueError, match="optimizer must have every parameter that scaled trains, it lacks some"):
        training.attach(model, sgd(model), epochs=2)
    optimizer = SGD(groups, lr=0.1)
    training.attach(model, optimizer, epochs=2)
    images, labels = torch.full((2, 3, 8, 8), 0.5), torch.tensor([1, 2])
    penalty: Any = training.penalty(images, None, labels)
    assert penalty.item() == 3 * (0.5 + 3)
    penalty.backward()
    optimizer.step()
    assert scale.item() == pytest.approx(1 - 0.1 * (10.5 + 0.1), rel=1e-6), "trained and decayed"
    training.end_batch()
    assert training.end_epoch() == "pruned"
    assert training.state_dict()["parts"] == [{"batches": 1, "epochs": 1}]
    assert not training.deployable
    assert training.trained is training._attached().parts[0].made.network
    training.finish()
    deployed = training.finish()
    assert training._attached().parts[0].made.finished == 1
    assert type(deployed[5]) is nn.ReLU


def test_penalties_add_up() -> None:
    training = compose("scaled+ortho-loss(0.5)")
    model = training.prepare(network())
    training.attach(model, SGD(training.param_groups(model, 0.0), lr=0.1), epochs=2)
    images, labels = torch.ones(2, 3, 8, 8), torch.tensor([1, 0])
    own = fs.OrthoLoss(model, weight=0.5).penalty()
    torch.testing.assert_close(training.penalty(images, None, labels), 2 * torch.tensor(2.0) + own)


# --- order ----------------------------------------------------------------------------------------------------


def test_all_are_told_in_order() -> None:
    """Attached last of all, an average still has its turn in the order of the text."""
    *_, training = attached("average+early(mark=a)+late(mark=b)")
    assert Told.log == ["made a", "attached a", "made b", "attached b", "made average"]
    assert isinstance(training.trained, nn.Identity)
    Told.log.clear()
    training.end_batch()
    training.end_epoch()
    training.finish()
    training.finish()
    assert Told.log == ["batch a", "batch b", "epoch a", "epoch b", "detached a", "detached b"]


@pytest.mark.parametrize(
    ("says", "event"),
    [
        (["pruned", "restored"], "pruned"),
        ([None, "restored"], "restored"),
        (["finished", "phase"], "phase"),
        (["finished", 3], None),
        ([None, None], None),
    ],
)
def test_of_several_events_the_first_is_told(says: list[Any], event: str | None) -> None:
    _, _, training = attached("early+late")
    Told.says[:] = says
    assert training.end_epoch() == event
    assert not Told.says, "all were asked"


def test_a_method_that_is_told_of_the_epoch_sees_the_rate_before_the_schedule_steps() -> None:
    model, optimizer, training = attached("told", scheduler=halving)
    seen: list[float] = []
    training._attached().parts[0].made.step = lambda: seen.append(optimizer.param_groups[0]["lr"])
    for n in range(3):
        step(model, optimizer, n)
        training.end_epoch()
    assert seen == pytest.approx([0.1, 0.05, 0.025])
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.0125)


@pytest.mark.parametrize(("by", "rates"), [("batch", [0.025, 0.00625]), ("epoch", [0.05, 0.025])])
def test_the_schedule_is_stepped_by_batch_or_by_epoch(by: str, rates: list[float]) -> None:
    model, optimizer, training = attached("baseline", scheduler=halving, schedule_by=by)
    found = []
    for _ in range(2):
        for n in range(2):
            step(model, optimizer, n)
            training.end_batch()
        training.end_epoch()
        found.append(optimizer.param_groups[0]["lr"])
    assert found == pytest.approx(rates)


def test_a_schedule_that_was_started_anew_is_not_stepped_at_once() -> None:
    model, optimizer, training = attached("asa", 6, scheduler=halving)
    found = []
    for n in range(6):
        found.append(optimizer.param_groups[0]["lr"])
        step(model, optimizer, n)
        training.end_epoch()
    assert found == pytest.approx([0.1, 0.05] * 3)


# --- phases ---------------------------------------------------------------------------------------------------


def test_phases_are_those_of_who_divides_the_training() -> None:
    assert attached("told")[2].phases == (Phase("full", 0, 4),)
    assert attached("told+timed")[2].phases == (Phase("full", 0, 1), Phase("sub", 1, 3), Phase("full", 3, 4))
    assert [tuple(phase) for phase in attached("asa", 5)[2].phases] == [
        ("rate 0.5", 0, 1),
        ("rate 1", 1, 3),
        ("rate 0.5", 3, 5),
    ]


@pytest.mark.parametrize(("gamma", "warned"), [(0.1, True), (0.9, False)])
def test_it_warns_where_what_comes_back_would_hardly_be_trained(gamma: float, warned: bool) -> None:
    *_, training = attached("timed", 6, scheduler=lambda o: ExponentialLR(o, gamma))
    expected = "after the last restore, behind epoch 5, comes 0.0% of the training, counted in learning rate"
    assert [text.startswith(expected) for text in training.warnings] == [True] * warned
    assert attached("timed", 6)[2].warnings == [], "nobody knows the rates"


# --- what fails leaves no trace -------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Prune. nothing was pruned")
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("text", ["wau+conv-lr+broken", "conv-lr+prune(after=1)+broken", "broken+conv-lr+asa+ema"])
def test_an_attach_that_fails_in_the_middle_is_undone_and_may_be_tried_again(
    text: str, several: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, training = network(), compose(text)
    parts = [model[:2], model[2:]] if several else [model]
    optimizers = [sgd(part) for part in parts]
    for optimizer in optimizers:
        optimizer.param_groups[0]["initial_lr"] = 7.0  # of the user's own schedule
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    for optimizer in optimizers:
        optimizer.step()
    before = trace_of(model, optimizers)
    given = optimizers if several else optimizers[0]
    with pytest.raises(ValueError, match=r"^not on this one$"):
        training.attach(model, given, epochs=4, scheduler=halving)
    assert_same(trace_of(model, optimizers), before)
    with pytest.raises(ValueError, match="call attach"):
        training.end_epoch()
    monkeypatch.setattr(Broken, "fails", False)
    training.attach(model, given, epochs=4, scheduler=halving)
    training.finish()
    assert trace_of(model, optimizers)[2] == [0] * len(optimizers)


def test_a_state_loaded_before_that_does_not_fit_is_told_when_attaching_and_undone() -> None:
    model, training = network(), compose("conv-lr+asa")
    training.load_state_dict(attached("conv-lr+asa", 3)[2].state_dict())
    optimizer = sgd(model)
    step(model, optimizer)
    before = trace_of(model, [optimizer])
    with pytest.raises(ValueError, match="state"):
        training.attach(model, optimizer, epochs=9, scheduler=halving)
    assert_same(trace_of(model, [optimizer]), before)


@pytest.mark.parametrize("name", SHARED)
def test_on_a_wrapper_it_is_undone_at_all_levels(name: str) -> None:
    model, training = network(), compose("conv-lr+asa")
    optimizer = SHARED[name](model.parameters(), lr=0.1, momentum=0.9)

    def groups() -> Any:
        return [[dict(group) for group in level.param_groups] for level in levels_with_groups(optimizer)]

    def fails(one: Optimizer) -> LRScheduler:
        halving(one)
        raise KeyError("warmup")

    before = groups()
    with pytest.raises(KeyError, match="warmup"):
        training.attach(model, optimizer, epochs=4, scheduler=fails)
    assert_same(groups(), before)
    training.attach(model, optimizer, epochs=4, scheduler=halving)


def test_a_timeline_that_raises_is_undone() -> None:
    model, training = network(), compose("conv-lr+wau+timed(never)")
    optimizer = sgd(model)
    before = trace_of(model, [optimizer])
    with pytest.raises(ValueError, match="above 9"):
        training.attach(model, optimizer, epochs=4)
    assert_same(trace_of(model, [optimizer]), before)


def test_tried_again_nothing_is_left_of_the_first_optimizer(monkeypatch: pytest.MonkeyPatch) -> None:
    model, training = network(), compose("bound+broken")
    with pytest.raises(ValueError, match="not on this one"):
        training.attach(model, sgd(model), epochs=4)
    monkeypatch.setattr(Broken, "fails", False)
    optimizer = sgd(model)
    training.attach(model, optimizer, epochs=4)
    assert training.penalty(None, None, None) is optimizer


def test_tried_again_what_was_prepared_is_still_there(monkeypatch: pytest.MonkeyPatch) -> None:
    training = compose("prepared+broken")
    model = training.prepare(network())
    with pytest.raises(ValueError, match="not on this one"):
        training.attach(model, sgd(model), epochs=4)
    monkeypatch.setattr(Broken, "fails", False)
    training.attach(model, sgd(model), epochs=4)


# --- resuming -------------------------------------------------------------------------------------------------


def test_a_state_goes_to_those_that_take_one() -> None:
    model, optimizer, training = attached("told+wau+conv-lr", scheduler=halving)
    step(model, optimizer)
    training.end_batch()
    training.end_epoch()
    state = copy.deepcopy(training.state_dict())
    assert [part is None for part in state["parts"]] == [True, False, False]
    assert state["epoch"] == 1
    other = attached("told+wau+conv-lr", scheduler=halving)[2]
    other.load_state_dict(state)
    assert_same(other.state_dict(), state)


def failing_second(text: str) -> tuple[Composition, Any, nn.Module, SGD]:
    """A composition, and an older state of it whose second part does not load."""
    model, optimizer, training = attached(text, scheduler=halving)
    state = copy.deepcopy(training.state_dict())
    for n in range(2):
        step(model, optimizer, n)
        training.end_batch()
        training.end_epoch()
    state["parts"][1] = {"not": "of this"}
    return training, state, model, optimizer


@pytest.mark.parametrize(
    "text",
    [
        "wau+broken",
        "prune(after=2)+broken",
        "asa+broken",
        pytest.param(
            "ema(0.5)+broken",
        ),
    ],
)
def test_a_state_whose_second_part_fails_leaves_the_first_as_it_was(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Broken, "fails", False)
    training, state, model, optimizer = failing_second(text)
    before = copy.deepcopy(training.state_dict()), trace_of(model, [optimizer])
    with pytest.raises(ValueError, match="not a state of mine"):
        training.load_state_dict(state)
    assert_same((training.state_dict(), trace_of(model, [optimizer])), before)


def test_a_state_of_other_optimizers_is_refused_before_any_part_has_it() -> None:
    training, state, *_ = failing_second("wau+conv-lr")
    before = copy.deepcopy(training.state_dict())
    state["schedule"]["groups"] = []
    with pytest.raises(ValueError, match="saved with parameter groups"):
        training.load_state_dict(state)
    assert_same(training.state_dict(), before)
