"""Schedules that are started, started anew and resumed; rates looked at ahead against really stepping."""

from __future__ import annotations

import copy
import io
import math
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.two_processes import run
from reference.wrappers import OWN, SAM, SHARED, Apart, LooseSAM, processes, zero
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

from filtersmith.common.phases import fit_cycle
from filtersmith.optim.beginning import Beginning
from filtersmith.optim.groups import group_options, saved_groups, scheduled, set_group_options
from filtersmith.optim.lr import (
    MOST_STEPS,
    Schedules,
    rates_ahead,
    useful_epochs,
)
from filtersmith.optim.wrappers import innermost_of

pytestmark = pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
EPOCHS, STEPS = 6, 4


def sgd(*rates: float) -> SGD:
    return SGD([{"params": [nn.Parameter(torch.ones(2))], "lr": lr} for lr in rates or (0.2,)], lr=1.0, momentum=0.9)


def rates_of(*optimizers: Optimizer) -> list[float]:
    return [float(group["lr"]) for optimizer in optimizers for group in optimizer.param_groups]


def warm(optimizer: Optimizer) -> LRScheduler:
    return SequentialLR(optimizer, [LinearLR(optimizer, 0.1, total_iters=2), ExponentialLR(optimizer, 0.5)], [2])


# --- options of groups ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["number", "tensor"])
def test_groups_are_restored_tensors_as_the_objects_that_they_are(kind: str) -> None:
    rate: Any = torch.tensor(0.1) if kind == "tensor" else 0.1
    optimizer = AdamW([nn.Parameter(torch.ones(2))], lr=rate, foreach=False)
    (group,) = optimizer.param_groups
    parameters, held = group["params"], group["lr"]
    put_back = saved_groups(optimizer)
    assert "params" not in group_options(group)
    wanted = copy.deepcopy(group_options(group))
    LambdaLR(optimizer, lambda step: 0.5)
    set_group_options(group, {"weight_decay": 3.0})
    group["lr_of_mine"] = 1
    assert float(group["lr"]) == pytest.approx(0.05)
    put_back()
    assert group_options(group) == wanted
    assert "initial_lr" not in group
    assert group["params"] is parameters
    assert kind == "number" or group["lr"] is held
    if kind == "tensor":
        group["lr"].fill_(7.0)
        put_back()
        assert group["lr"] == torch.tensor(0.1), "what was seen is a copy"


# --- schedules ------------------------------------------------------------------------------------------------


def test_without_a_function_the_rates_stay() -> None:
    optimizer = sgd(0.2, 0.1)
    schedules = Schedules([optimizer], None)
    schedules.start()
    schedules.step()
    assert rates_of(optimizer) == [0.2, 0.1]
    assert schedules.made == ()


def test_several_optimizers_each_from_its_own_rates() -> None:
    optimizers = sgd(0.4, 0.2), sgd(0.1)
    schedules = Schedules(optimizers, lambda o: ExponentialLR(o, 0.5))
    assert rates_of(*optimizers) == [0.4, 0.2, 0.1]
    schedules.start()
    assert [scheduler.optimizer for scheduler in schedules.made] == list(optimizers)
    for _ in range(2):
        schedules.step()
    assert rates_of(*optimizers) == pytest.approx([0.1, 0.05, 0.025])


@pytest.mark.parametrize("make", [partial(StepLR, step_size=1, gamma=0.5), warm, lambda o: OneCycleLR(o, 0.2, 8)])
def test_started_anew_it_begins_with_the_rates_of_now(make: Callable[[Any], LRScheduler]) -> None:
    """And not with those of the schedule before, whose ``initial_lr`` stands in the groups."""
    optimizer, fresh = sgd(), sgd()
    schedules, expected = Schedules([optimizer], make), Schedules([fresh], make)
    schedules.start()
    for _ in range(3):
        schedules.step()
    for group in optimizer.param_groups:
        group["lr"] = 0.2
    first = schedules.made
    schedules.start()
    expected.start()
    assert schedules.made[0] is not first[0]
    for _ in range(4):
        assert rates_of(optimizer) == rates_of(fresh)
        schedules.step()
        expected.step()


def test_rates_that_somebody_set_in_between_are_where_it_starts_anew() -> None:
    optimizer = sgd(0.2)
    schedules = Schedules([optimizer], lambda o: ExponentialLR(o, 0.5))
    schedules.start()
    optimizer.param_groups[0]["lr"] = 8.0
    schedules.start()
    schedules.step()
    assert rates_of(optimizer) == [4.0]
    assert optimizer.param_groups[0]["initial_lr"] == 8.0


@pytest.mark.parametrize("make", [partial(MultiStepLR, milestones=[2, 4], gamma=0.1), warm])
def test_resumed_from_a_file_it_goes_on(make: Callable[[Any], LRScheduler]) -> None:
    def started() -> tuple[list[Optimizer], Schedules]:
        optimizers: list[Optimizer] = [sgd(0.4, 0.2), sgd(0.1)]
        schedules = Schedules(optimizers, make)
        schedules.start()
        return optimizers, schedules

    (whole, expected), (stopped, first), (resumed, second) = started(), started(), started()
    for optimizers in (whole, stopped):
        optimizers[0].param_groups[1]["weight_decay"] = 0.5  # a method's own
    for _ in range(3):
        expected.step()
        first.step()
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file))
    for _ in range(4):
        for one, other in zip(whole, resumed, strict=True):
            assert [group_options(g) for g in one.param_groups] == [group_options(g) for g in other.param_groups]
        expected.step()
        second.step()


def test_without_a_function_a_state_changes_no_option() -> None:
    """A schedule of the user's may have set the next epoch's rates already, which the state lacks."""
    schedules = Schedules(optimizer := sgd(0.4, 0.2), None)
    state = schedules.state_dict()
    optimizer.param_groups[0].update(lr=0.3, momentum=0.5)
    before = [group_options(group) for group in optimizer.param_groups]
    schedules.load_state_dict(state)
    assert [group_options(group) for group in optimizer.param_groups] == before


def test_a_state_may_be_loaded_twice() -> None:
    """Of a CyclicLR, too, which takes out of its state what it has read."""
    optimizer = sgd(0.4)
    schedules = Schedules(optimizer, lambda o: CyclicLR(o, 0.1, 0.4, step_size_up=2))
    schedules.start()
    schedules.step()
    state = schedules.state_dict()
    for _ in range(2):
        schedules.step()
        schedules.load_state_dict(state)
        assert rates_of(optimizer) == [0.25]


def test_a_state_is_a_copy() -> None:
    rate = torch.tensor(0.1)
    optimizer = AdamW([nn.Parameter(torch.ones(2))], lr=rate)
    schedules = Schedules([optimizer], lambda o: ExponentialLR(o, 0.5))
    schedules.start()
    state = schedules.state_dict()
    rate.fill_(5.0)
    schedules.load_state_dict(state)
    assert optimizer.param_groups[0]["lr"] is rate
    assert float(rate) == pytest.approx(0.1)


def test_a_state_of_others_is_refused_and_nothing_changes() -> None:
    state = Schedules([sgd(0.4, 0.2)], None).state_dict()
    scheduled = Schedules([optimizer := sgd(0.4, 0.2)], lambda o: ExponentialLR(o, 0.5))
    scheduled.start()
    scheduled.step()
    with pytest.raises(
        ValueError, match=r"^the state was saved with schedules: \[\], here are schedules: \['ExponentialLR'\]$"
    ):
        scheduled.load_state_dict(state)
    assert rates_of(optimizer) == [0.2, 0.1]
    for others in ([sgd(0.4)], [sgd(0.4), sgd(0.2)]):
        with pytest.raises(
            ValueError, match=r"^the state was saved with parameter groups: \[2\], here are parameter"
        ):
            Schedules(others, None).load_state_dict(state)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        ("cosine", r"^scheduler must be a function that makes one from the optimizer, got 'str'$"),
        (
            ReduceLROnPlateau,
            r"^scheduler must make a schedule that is stepped without a metric, got ReduceLROnPlateau",
        ),
        (lambda optimizer: None, r"^scheduler must be a function that makes a torch LRScheduler, got 'NoneType'$"),
    ],
)
def test_what_is_no_schedule_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Schedules([sgd()], make).start()
    assert "\n" not in str(caught.value)
    if callable(make):
        optimizer = sgd()
        before = [group_options(group) for group in optimizer.param_groups]
        with pytest.raises(ValueError, match=message):
            rates_ahead(optimizer, make, EPOCHS, by_batch=False)
        assert [group_options(group) for group in optimizer.param_groups] == before


# --- wrappers -------------------------------------------------------------------------------------------------


@pytest.fixture
def group_of_one(tmp_path: Path) -> Iterator[None]:
    processes(tmp_path)
    yield
    torch.distributed.destroy_process_group()


def vectors() -> list[nn.Parameter]:
    made = [nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))]
    for parameter in made:
        parameter.grad = torch.ones_like(parameter)
    return made


def used(optimizer: Any) -> list[float]:
    """The rates, and momenta, of each step of the innermost optimizers, written down as they are taken."""
    seen: list[Any] = []

    def look(inner: Optimizer, *_: Any) -> None:
        seen.append([(float(group["lr"]), group["momentum"]) for group in inner.param_groups])

    for inner in innermost_of(optimizer):
        inner.register_step_pre_hook(look)
    return seen


def trained(make: Callable[..., Any], schedule: Any, *, resume: bool = False) -> list[Any]:
    """Rates in a training of six steps that starts anew after four and is resumed after two, if it is."""

    def set_up() -> tuple[Any, Beginning, Schedules, Any, list[Any]]:
        optimizer = make(vectors(), lr=0.2, momentum=0.9)
        beginning, ours = Beginning(optimizer), Schedules(optimizer, schedule)
        initial = ours.options()
        ours.start()
        return optimizer, beginning, ours, initial, used(optimizer)

    optimizer, beginning, ours, initial, seen = set_up()
    for step in range(6):
        if step == 2 and resume:
            states = [copy.deepcopy(one.state_dict()) for one in outer(optimizer)], copy.deepcopy(ours.state_dict())
            before = seen
            optimizer, beginning, ours, initial, seen = set_up()
            for one, state in zip(outer(optimizer), states[0], strict=True):
                one.load_state_dict(state)
            ours.load_state_dict(states[1])
            seen[:] = before
        optimizer.step()
        if step == 3:
            ours.start_anew(initial, beginning.reset)
        else:
            ours.step()
    return seen[:: len(innermost_of(optimizer))]


def outer(optimizer: Any) -> list[Any]:
    """What a user saves."""
    found = [optimizer] if isinstance(optimizer, Optimizer) else optimizer.all
    for one in found:
        if hasattr(one, "consolidate_state_dict"):  # ZeRO
            one.consolidate_state_dict()
    return found


@pytest.mark.usefixtures("group_of_one")
@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("name", [*SHARED, *OWN])
def test_the_innermost_optimizer_steps_with_the_rates_of_a_plain_one(name: str, resume: bool) -> None:
    """Also with momenta, which OneCycleLR changes; and nobody takes one level for a second schedule."""
    schedules = warm, partial(OneCycleLR, max_lr=0.3, total_steps=9), lambda o: LambdaLR(o, lambda n: 0.5**n)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*schedule ")
        for schedule in schedules:
            expected = trained(SGD, schedule)
            assert len({rate for ((rate, _), *_) in expected}) > 2
            assert trained((SHARED | OWN)[name], schedule, resume=resume) == expected


def own_rates(optimizer: Any) -> list[Any]:
    return [group["lr"] for inner in innermost_of(optimizer) for group in inner.param_groups]


@pytest.mark.parametrize("wrap", [SAM, LooseSAM])
def test_a_function_may_make_the_schedule_of_what_is_inside_where_groups_are_shared(wrap: Any) -> None:
    optimizer = wrap(vectors(), lr=0.2)
    make = lambda o: ExponentialLR(getattr(o, "base_optimizer"), 0.5)  # noqa: B009, E731  # as its user knows it
    ours = Schedules(optimizer, make)
    ours.start()
    ours.step()
    assert own_rates(optimizer) == [0.1]
    assert rates_ahead(optimizer, make, EPOCHS, by_batch=False) is None, "a stand-in has nothing inside"


@pytest.mark.usefixtures("group_of_one")
def test_a_schedule_of_other_groups_is_refused_and_nothing_changes() -> None:
    optimizer, other = zero(vectors(), lr=0.2), sgd()
    for make in (lambda o: ExponentialLR(o.optim, 0.5), lambda o: ExponentialLR(other, 0.5)):
        before = copy.deepcopy(optimizer.param_groups[0])
        with pytest.raises(
            ValueError,
            match=r"^scheduler must make a schedule of the optimizer that it is given, got another one's .SGD, for Z",
        ):
            Schedules(optimizer, make).start()
        assert optimizer.param_groups[0].keys() == before.keys()


def test_rates_that_a_wrapper_does_not_pass_on_are_refused() -> None:
    optimizer = Apart(vectors(), lr=0.2)
    innermost_of(optimizer)[0].param_groups[0]["lr"] = 0.1
    with pytest.raises(ValueError, match=r"^scheduler must reach SGD, whose learning rates Apart around it does not"):
        Schedules(optimizer, lambda o: ExponentialLR(o, 0.5)).start()
    Schedules(optimizer, None).start()


def on_two_ranks() -> list[Any]:
    return trained(zero, partial(OneCycleLR, max_lr=0.3, total_steps=9))


def test_on_two_ranks(tmp_path: Path) -> None:
    """Each of which has one of the two parameters."""
    assert run(on_two_ranks, tmp_path) == [trained(SGD, partial(OneCycleLR, max_lr=0.3, total_steps=9))] * 2


@pytest.mark.usefixtures("group_of_one")
@pytest.mark.parametrize("name", [*SHARED, *OWN])
def test_rates_ahead_of_a_wrapped_optimizer_are_those_of_a_plain_one(name: str) -> None:
    optimizer = (SHARED | OWN)[name](vectors(), lr=0.2, momentum=0.9)
    before = own_rates(optimizer)
    (one, *_) = scheduled(optimizer)
    make = partial(OneCycleLR, max_lr=0.5, total_steps=EPOCHS)
    assert rates_ahead(one, make, EPOCHS, by_batch=False) == rates_ahead(sgd(), make, EPOCHS, by_batch=False)
    assert own_rates(optimizer) == before


# --- looked at ahead of time ----------------------------------------------------------------------------------


class OfItsOwn(LRScheduler):
    """A user's schedule, which says how long an epoch is."""

    steps_per_epoch = STEPS

    def get_lr(self) -> list[Any]:
        return [base / (1 + self.last_epoch % 5) for base in self.base_lrs]


MAKERS: dict[str, tuple[Callable[[Any], LRScheduler], bool]] = {
    "LambdaLR": (lambda o: LambdaLR(o, lambda n: 1 / (1 + n)), False),
    "LambdaLR that rises": (lambda o: LambdaLR(o, lambda n: (n + 1) / 7), False),
    "StepLR": (lambda o: StepLR(o, 2, gamma=0.1), False),
    "CosineAnnealingLR": (lambda o: CosineAnnealingLR(o, EPOCHS), False),
    "SequentialLR": (warm, False),
    "cosine by batch": (lambda o: CosineAnnealingLR(o, EPOCHS * STEPS), True),
    "OneCycleLR by batch": (lambda o: OneCycleLR(o, 0.5, total_steps=EPOCHS * STEPS), True),
    "OneCycleLR by epochs and steps": (lambda o: OneCycleLR(o, 0.5, epochs=EPOCHS, steps_per_epoch=STEPS), True),
    "of its own by batch": (OfItsOwn, True),
    "of its own by epoch": (OfItsOwn, False),
}


def stepped(make: Callable[[Any], LRScheduler], by_batch: bool, lr: float = 0.2) -> list[float]:
    """The highest rate of each epoch, as a share, of an optimizer that is really stepped."""
    optimizer = sgd(lr)
    scheduler, highest = make(optimizer), []
    for epoch in range(EPOCHS):
        seen = []
        for step in range(STEPS):
            seen.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if by_batch and (epoch, step) != (EPOCHS - 1, STEPS - 1):
                scheduler.step()
        if not by_batch:
            scheduler.step()
        highest.append(max(seen))
    return [rate / max(highest) for rate in highest]


@pytest.mark.parametrize("name", MAKERS)
def test_rates_ahead_are_those_of_really_stepping(name: str) -> None:
    make, by_batch = MAKERS[name]
    optimizer = sgd()
    optimizer.param_groups[0]["initial_lr"] = 77.0  # of an earlier schedule
    before = copy.deepcopy(optimizer.state_dict())
    assert rates_ahead(optimizer, make, EPOCHS, by_batch) == pytest.approx(stepped(make, by_batch))
    assert optimizer.state_dict() == before
    assert not hasattr(optimizer.step, "_wrapped_by_lr_sched"), "torch marks the step of an optimizer with a schedule"


def test_a_rate_that_is_a_tensor_is_looked_at_too() -> None:
    optimizer = AdamW([nn.Parameter(torch.ones(2))], lr=torch.tensor(0.2))
    rate = optimizer.param_groups[0]["lr"]
    found = rates_ahead(optimizer, partial(StepLR, step_size=2, gamma=0.5), EPOCHS, by_batch=False)
    assert found == pytest.approx([1, 1, 0.5, 0.5, 0.25, 0.25])
    assert optimizer.param_groups[0]["lr"] is rate
    assert float(rate) == pytest.approx(0.2)


@pytest.mark.parametrize("by_batch", [False, True])
def test_of_a_function_that_captures_an_optimizer_nobody_can_know(by_batch: bool) -> None:
    """It ignores what it is given; the user's optimizer is as it was."""
    optimizer = sgd(0.2, 0.1)
    before = [group_options(group) for group in optimizer.param_groups]

    def make(_: Optimizer) -> LRScheduler:
        return OneCycleLR(optimizer, 0.5, epochs=EPOCHS, steps_per_epoch=STEPS)

    assert rates_ahead(optimizer, make, EPOCHS, by_batch) is None
    assert [group_options(group) for group in optimizer.param_groups] == before


@pytest.mark.parametrize(
    ("make", "epochs"),
    [
        (lambda o: StepLR(o, 2), EPOCHS),  # how many batches an epoch has it does not say
        (lambda o: CosineAnnealingLR(o, MOST_STEPS + EPOCHS), EPOCHS),
        (lambda o: LambdaLR(o, lambda n: 0.0), EPOCHS),
    ],
)
def test_what_nobody_can_know(make: Callable[[Any], LRScheduler], epochs: int) -> None:
    assert rates_ahead(sgd(), make, epochs, by_batch=True) is None


def test_nothing_is_known_where_the_rate_is_always_0() -> None:
    assert rates_ahead(sgd(), lambda o: LambdaLR(o, lambda n: 0.0), EPOCHS, by_batch=False) is None


def test_a_function_that_raises_does_so_and_leaves_the_groups() -> None:
    optimizer = sgd()
    before = [group_options(group) for group in optimizer.param_groups]

    def make(_: Optimizer) -> LRScheduler:
        LambdaLR(optimizer, lambda n: 0.5)
        raise KeyError("warmup")

    with pytest.raises(KeyError, match="warmup"):
        rates_ahead(optimizer, make, EPOCHS, by_batch=False)
    assert [group_options(group) for group in optimizer.param_groups] == before


@pytest.mark.parametrize(
    ("epochs", "rates", "expected"),
    [
        (4, [1.0, 0.5, 0.2, 0.05], 2),
        (4, [1.0, 0.5, 0.2, 0.19], 3),
        (4, [1.0, 0.5, 0.2, 0.18], 2),  # below a tenth of 1.88
        (4, [1.0, 0.01, 0.01, 0.9], 3),  # a restart
        (4, [1.0, 0.01, 0.01, 0.01], 1),
        (4, None, 3),
        (100, None, 90),  # as in the paper of RePr
        (20, [1.0] * 20, 18),
        (10, [1.0] * 5 + [0.1] * 5, 4),  # a drop to a tenth comes too late for anything
        (4, [0.0, 0.0, 0.0, 0.0], 1),
        (1, None, 1),
        (1, [1.0], 1),
    ],
)
def test_useful_epochs(epochs: int, rates: list[float] | None, expected: int) -> None:
    assert useful_epochs(epochs, rates) == expected


@pytest.mark.parametrize("epochs", range(3, 120))
def test_under_cosine_a_fifth_of_the_epochs_with_a_tenth_of_the_rate_follows(epochs: int) -> None:
    """Of the placed cycle of a method whose phases are all left open; the last comes back at a third of the rate."""
    rates = [0.5 * (1 + math.cos(math.pi * epoch / epochs)) for epoch in range(epochs)]
    s1, s2, cycles = fit_cycle(epochs, useful_epochs(epochs, rates))
    last = cycles * (s1 + s2)
    with_a_rate = sum(rate >= 0.1 for rate in rates)
    assert sum(rate >= 0.1 for rate in rates[last:]) >= -(-with_a_rate // 5)
    assert rates[last] >= (0.3 if epochs > 3 else 0.25)
