"""Phases with restarts, against restarting by hand."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.flow import restarts
from reference.nets import assert_same, assert_same_run, batches, loss_of, net, train, train_step
from reference.wrappers import OWN, SHARED, processes
from torch import nn
from torch.optim import SGD, Adagrad, Adam, Optimizer, lr_scheduler

import filtersmith as fs
from filtersmith.optim.wrappers import innermost_of

EPOCHS = 3  # of each phase
STEPS = 2  # of each epoch

OPTIMIZERS: dict[str, Callable[[Any], Optimizer]] = {
    "momentum": lambda p: SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-2),
    "adam": lambda p: Adam(p, lr=0.01),
    "adam-tensor-lr": lambda p: Adam(p, lr=torch.tensor(0.01), foreach=False, capturable=False),
    "adagrad": lambda p: Adagrad(p, lr=0.05, initial_accumulator_value=0.1),
}


def sequential(optimizer: Optimizer) -> lr_scheduler.LRScheduler:
    warm_up = lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=1)
    after = lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS - 1)
    return lr_scheduler.SequentialLR(optimizer, [warm_up, after], milestones=[1])


SCHEDULERS: dict[str, Callable[[Optimizer], lr_scheduler.LRScheduler] | None] = {
    "none": None,
    "multi-step": lambda o: lr_scheduler.MultiStepLR(o, [1, 2], gamma=0.1),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=EPOCHS, eta_min=1e-4),
    "one-cycle": lambda o: lr_scheduler.OneCycleLR(
        o, max_lr=0.2, total_steps=EPOCHS, cycle_momentum=not isinstance(o, Adagrad)
    ),
    "warm restarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=2),
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda epoch: 0.5**epoch),
    "sequential": sequential,
}

optimizers = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
schedulers = pytest.mark.parametrize("schedule", SCHEDULERS.values(), ids=SCHEDULERS.keys())


def sgd(params: Any) -> Optimizer:
    return OPTIMIZERS["momentum"](params)


def small() -> nn.Module:
    """Half as dear as `net`, for the many runs."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.Flatten(), nn.Linear(20, 4)
    )


def epoch_of_training(model: nn.Module, optimizer: Optimizer, epoch: int) -> None:
    train(model, optimizer, STEPS, start=epoch * STEPS)


def run(flow: fs.Flow, model: nn.Module, optimizer: Optimizer, epochs: int) -> tuple[list[Any], list[float]]:
    """Events and learning rates of the next epochs."""
    events, rates = [], []
    for _ in range(epochs):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        epoch_of_training(model, optimizer, flow.epoch)
        events.append(flow.step())
    return events, rates


# --- methods.md section 2, "Must satisfy" -------------------------------------------------------------------


def test_1_at_a_boundary_only_optimizer_state_and_learning_rate_start_anew() -> None:
    model = net()
    optimizer = sgd(model.parameters())
    wau = fs.WAU(model, rate=0.5).attach(optimizer)
    flow = fs.ASA(wau, optimizer, scheduler=SCHEDULERS["multi-step"], epochs=EPOCHS)
    run(flow, model, optimizer, EPOCHS - 1)
    epoch_of_training(model, optimizer, flow.epoch)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.001)
    assert optimizer.state
    before = copy.deepcopy(model.state_dict())
    assert flow.step() == "phase"
    assert_same(model.state_dict(), before)
    assert not optimizer.state
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert flow.scheduler.last_epoch == 0
    assert (wau.rate, flow.phase, flow.epoch) == (1.0, 1, EPOCHS)


@optimizers
@schedulers
def test_2_sync_sync_sync_is_three_plain_restarts_bit_for_bit(make: Any, schedule: Any) -> None:
    model, twin = small(), small()
    optimizer = make(model.parameters())
    flow = fs.Flow([(1.0, EPOCHS)] * 3, fs.WAU(model), optimizer, scheduler=schedule)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch's, of schedules stepped out of order
        events, rates = run(flow, model, optimizer, 3 * EPOCHS)
    assert rates == restarts(twin, make, schedule, epoch_of_training, [EPOCHS] * 3)
    assert events == [None, None, "phase"] * 2 + [None, None, "finished"]
    assert_same(model.state_dict(), twin.state_dict())
    assert len(set(rates)) == (1 if schedule is None else len(set(rates[:EPOCHS])))
    assert schedule is None or len(set(rates[:EPOCHS])) > 1


@optimizers
def test_masked_phases_are_restarts_with_masks_of_one_stream(make: Any) -> None:
    model, twin = net(), net()
    optimizer = make(model.parameters())
    flow = fs.ASA(fs.WAU(model, rate=0.5, seed=4), optimizer, scheduler=SCHEDULERS["cosine"], epochs=EPOCHS)
    run(flow, model, optimizer, 3 * EPOCHS)

    masks = fs.WAU(twin, rate=0.5, seed=4)

    def masked(params: Any) -> Optimizer:
        by_hand = make(params)
        masks.detach()
        masks.attach(by_hand)
        return by_hand

    def epoch(model: nn.Module, optimizer: Optimizer, n: int) -> None:
        masks.rate = (0.5, 1.0, 0.5)[n // EPOCHS]
        epoch_of_training(model, optimizer, n)

    restarts(twin, masked, SCHEDULERS["cosine"], epoch, [EPOCHS] * 3)
    assert_same(model.state_dict(), twin.state_dict())


@pytest.mark.parametrize(
    ("method", "expected"), [(fs.ASA, (0.3, 1.0, 0.3)), (fs.SAS, (1.0, 0.3, 1.0))], ids=("asa", "sas")
)
def test_3_4_phases_and_rates(method: type[fs.Flow], expected: tuple[float, ...]) -> None:
    model = net()
    optimizer = sgd(model.parameters())
    wau = fs.WAU(model, rate=0.3)
    flow = method(wau, optimizer)
    assert flow.phases == tuple((rate, 164) for rate in expected)  # the paper's 3 * 164 epochs
    flow = method(wau := fs.WAU(net(), rate=0.3), sgd(net().parameters()), epochs=2)
    seen = []
    while True:
        seen.append((flow.phase, wau.rate))
        if flow.step() == "finished":
            break
    assert seen == [(phase, rate) for phase, rate in enumerate(expected) for _ in range(2)]
    assert (flow.epoch, flow.phase) == (6, 3)
    with pytest.raises(RuntimeError, match="all 3 phases are over after 6 epochs"):
        flow.step()
    assert flow.epoch == 6


def test_phases_of_any_length() -> None:
    model = net()
    optimizer = sgd(model.parameters())
    wau = fs.WAU(model)
    flow = fs.Flow(((r, n) for r, n in ((0.5, 1), (1, 3), (0.25, 2))), wau, optimizer)
    assert wau.rate == 0.5
    assert wau.attached_to(optimizer)
    assert [(flow.step(), wau.rate) for _ in range(6)] == [
        ("phase", 1.0), (None, 1.0), (None, 1.0), ("phase", 0.25), (None, 0.25), ("finished", 0.25),
    ]  # fmt: skip


# --- resuming -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "schedule"),
    [("momentum", schedule) for schedule in SCHEDULERS]  # every schedule with one optimizer, and the other way
    + [(name, schedule) for name in OPTIMIZERS for schedule in ("one-cycle", "sequential") if name != "momentum"],
)
def test_a_resumed_run_equals_an_uninterrupted_one(name: str, schedule: str) -> None:
    make = OPTIMIZERS[name]

    def set_up() -> tuple[nn.Module, Optimizer, fs.WAU]:
        model = small()
        optimizer = make(model.parameters())
        return model, optimizer, fs.WAU(model, rate=0.5).attach(optimizer)

    def new_flow(wau: fs.WAU, optimizer: Optimizer) -> fs.Flow:
        return fs.ASA(wau, optimizer, scheduler=SCHEDULERS[schedule], epochs=EPOCHS)

    model, optimizer, wau = set_up()
    flow = new_flow(wau, optimizer)
    files, rates = [], []
    for _ in range(3 * EPOCHS):
        files.append(io.BytesIO())
        torch.save([model.state_dict(), optimizer.state_dict(), flow.state_dict()], files[-1])
        rates += run(flow, model, optimizer, 1)[1]

    starts = (1, EPOCHS, EPOCHS + 1, 3 * EPOCHS - 1)  # before, at and after a boundary, near the end
    orders = ["optimizer first", "flow first", "optimizer last"] * 2
    turn = list(SCHEDULERS).index(schedule) + list(OPTIMIZERS).index(name)  # each order meets each start
    for start, order in zip(starts, orders[turn % 3 :], strict=False):
        files[start].seek(0)
        weights, optimizer_state, flow_state = torch.load(files[start])
        model_2, optimizer_2, wau_2 = set_up()
        model_2.load_state_dict(weights)
        if order == "optimizer first":
            optimizer_2.load_state_dict(optimizer_state)
        flow_2 = new_flow(wau_2, optimizer_2)
        if order == "flow first":
            optimizer_2.load_state_dict(optimizer_state)
        flow_2.load_state_dict(flow_state)
        if order == "optimizer last":
            optimizer_2.load_state_dict(optimizer_state)
        _, rates_2 = run(flow_2, model_2, optimizer_2, 3 * EPOCHS - start)
        assert rates_2 == rates[start:], start
        assert_same_run((model, optimizer), (model_2, optimizer_2))
        assert_same(flow.state_dict(), flow_2.state_dict())


def test_a_saved_state_does_not_change_with_training() -> None:
    model = net()
    optimizer = OPTIMIZERS["adam-tensor-lr"](model.parameters())
    flow = fs.ASA(fs.WAU(model), optimizer, scheduler=SCHEDULERS["cosine"], epochs=EPOCHS)
    state = {key: value for key, value in flow.state_dict().items() if key != "scheduler"}  # that one is torch's
    frozen = copy.deepcopy(state)
    run(flow, model, optimizer, EPOCHS + 1)
    assert_same(state, frozen)


def test_a_state_of_another_flow_is_refused_and_nothing_changes() -> None:
    def flow_of(phases: Any = ((0.5, 2), (1.0, 2)), schedule: Any = SCHEDULERS["cosine"], groups: int = 1) -> fs.Flow:
        model = net()
        params = list(model.parameters())
        cut = [params] if groups == 1 else [params[:2], params[2:]]
        return fs.Flow(phases, fs.WAU(model), sgd([{"params": p} for p in cut]), scheduler=schedule)

    flow = flow_of()
    before = copy.deepcopy(flow.state_dict())
    for other, words in (
        (flow_of(phases=[(0.5, 2)]), r"saved with phases=\[\[0.5, 2\]\], this one has \[\[0.5, 2\], \[1.0, 2\]\]"),
        (flow_of(schedule=None), r"saved with schedules: \[\], here are schedules: \['CosineAnnealingLR'\]"),
        (flow_of(groups=2), r"saved with parameter groups: \[2\], here are parameter groups: \[1\]"),
    ):
        with pytest.raises(ValueError, match=words):
            flow.load_state_dict(other.state_dict())
    with pytest.raises(ValueError, match=r"not a state of a flow: .*epoch"):
        flow.load_state_dict({"phases": [[0.5, 2]]})
    assert_same(flow.state_dict(), before)


# --- schedules stepped by the loop, groups, wrappers ---------------------------------------------------------


def test_a_schedule_of_steps_is_left_to_the_loop() -> None:
    """One cycle over the steps of a phase, by hand and by ``flow.scheduler``."""

    def per_step(optimizer: Optimizer) -> lr_scheduler.LRScheduler:
        return lr_scheduler.OneCycleLR(optimizer, max_lr=0.2, total_steps=EPOCHS * STEPS + 1)

    model, twin = net(), net()
    optimizer = sgd(model.parameters())
    flow = fs.Flow([(1.0, EPOCHS)] * 2, fs.WAU(model), optimizer, scheduler=per_step, step_scheduler=False)
    data = batches()
    for _ in range(2 * EPOCHS):
        for _ in range(STEPS):
            train_step(model, optimizer, next(data))
            flow.scheduler.step()
        scheduler = flow.scheduler
        rate = optimizer.param_groups[0]["lr"]
        if flow.step() is None:
            assert flow.scheduler is scheduler
            assert optimizer.param_groups[0]["lr"] == rate

    data = batches()
    for _ in range(2):
        optimizer = sgd(twin.parameters())
        scheduler = per_step(optimizer)
        for _ in range(EPOCHS * STEPS):
            train_step(twin, optimizer, next(data))
            scheduler.step()
    assert_same(model.state_dict(), twin.state_dict())


def test_every_group_gets_its_own_options_back() -> None:
    """Also momentum, which some schedules change, and the options of a group that came later."""
    model = net()
    groups = [{"params": model.dense.parameters(), "lr": 0.3}, {"params": model.up.parameters(), "momentum": 0.5}]
    optimizer = SGD(groups, lr=0.1, momentum=0.9)
    flow = fs.Flow([(0.5, 2), (1.0, 2), (0.5, 2)], fs.WAU(model, layers=["dense", "up"]), optimizer)
    for boundary in range(2):
        for group in optimizer.param_groups:
            group.update(lr=9.0, momentum=0.0)
        if boundary == 0:
            optimizer.add_param_group({"params": list(model.fc.parameters()), "lr": 0.7})
        assert flow.step() is None
        optimizer.param_groups[-1]["lr"] = 5.0
        assert flow.step() == "phase"
        assert [(group["lr"], group["momentum"]) for group in optimizer.param_groups] == [
            (0.3, 0.9),
            (0.1, 0.5),
            (0.7, 0.9),
        ]


def test_it_starts_from_the_rate_at_hand_whatever_was_trained_before() -> None:
    model = net()
    optimizer = sgd(model.parameters())
    before = lr_scheduler.StepLR(optimizer, 1)
    train(model, optimizer, 1)
    before.step()
    optimizer.param_groups[0]["lr"] = 0.08
    with pytest.warns(UserWarning, match=r"has a schedule already \(StepLR\)"):  # which may be stepped, or not
        flow = fs.Flow([(1.0, 3), (1.0, 2)], fs.WAU(model), optimizer, scheduler=SCHEDULERS["lambda"])
    assert run(flow, model, optimizer, 5)[1] == [0.08, 0.04, 0.02, 0.08, 0.04]


def test_rates_that_are_tensors_are_never_shared() -> None:
    model = net()
    optimizer = OPTIMIZERS["adam-tensor-lr"](model.parameters())
    flow = fs.Flow([(1.0, 2)] * 3, fs.WAU(model), optimizer, scheduler=SCHEDULERS["lambda"])
    run(flow, model, optimizer, 1)
    optimizer.param_groups[0]["lr"] = 0.3  # a loop that sets a plain number
    with pytest.warns(UserWarning, match=r"a learning rate is 0.3 where scheduler= had set 0.005"):
        assert run(flow, model, optimizer, 5)[1] == pytest.approx([0.3, 0.01, 0.005, 0.01, 0.005])


def test_accelerates_optimizer() -> None:
    accelerate = pytest.importorskip("accelerate")
    model = net()
    optimizer = sgd(model.parameters())
    prepared, wrapped = accelerate.Accelerator(cpu=True).prepare(model, optimizer)
    flow = fs.ASA(fs.WAU(prepared), wrapped, scheduler=SCHEDULERS["cosine"], epochs=1)
    loss_of(prepared, next(batches())).backward()
    wrapped.step()
    assert optimizer.state
    assert flow.step() == "phase"
    assert not optimizer.state


@pytest.mark.parametrize("schedule", ["one-cycle", "sequential", "none"])
@pytest.mark.parametrize("name", [*SHARED, *OWN])
def test_on_a_wrapper_phases_are_restarts_of_a_plain_optimizer(name: str, schedule: str, tmp_path: Path) -> None:
    """What was changed in the groups inside goes back, too."""
    processes(tmp_path)
    try:
        model, twin = small(), small()
        make = SCHEDULERS[schedule]
        optimizer = (SHARED | OWN)[name](model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2)
        seen: list[float] = []
        for inner in innermost_of(optimizer)[:1]:
            inner.register_step_pre_hook(lambda inner, *_: seen.append(inner.param_groups[0]["lr"]))
        flow = fs.Flow([(1.0, EPOCHS)] * 2, fs.WAU(model), optimizer, scheduler=make)
        for epoch in range(2 * EPOCHS):
            epoch_of_training(model, optimizer, epoch)
            flow.step()
    finally:
        torch.distributed.destroy_process_group()
    assert seen[::STEPS] == restarts(twin, sgd, make, epoch_of_training, [EPOCHS] * 2)
    if "lookahead" not in name:  # which has other weights
        assert_same(model.state_dict(), twin.state_dict())


@pytest.mark.parametrize(
    ("phases", "options", "message"),
    [
        ([], {}, r"phases must be at least one \(rate, epochs\), got \[\]"),
        ([0.5, 1.0], {}, r"phases must be a sequence of \(rate, epochs\), got \[0.5, 1.0\]"),
        ([(0.0, 3)], {}, "rate must be a number in .*, got 0.0"),
        ([(0.5, 3), (1.1, 3)], {}, "rate must be .*, got 1.1"),
        ([(0.5, 0)], {}, "epochs must be a whole number of at least 1, got 0"),
        ([(0.5, 2.5)], {}, "epochs must be .*, got 2.5"),
        ([(0.5, True)], {}, "epochs must be .*, got True"),
        ([(0.5, 3)], {"scheduler": "cosine"}, "scheduler must be a function .*, got 'str'"),
    ],
)
def test_bad_options_name_themselves_and_change_nothing(phases: Any, options: Any, message: str) -> None:
    model = net()
    optimizer = sgd(model.parameters())
    wau = fs.WAU(model, rate=0.7)
    groups = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match=message):
        fs.Flow(phases, wau, optimizer, **options)
    assert wau.rate == 0.7
    assert not wau.attached_to(optimizer)
    assert_same(optimizer.state_dict(), groups)


def test_a_schedule_in_place_of_its_maker_is_refused() -> None:
    model = net()
    optimizer = sgd(model.parameters())
    with pytest.raises(ValueError, match=r"scheduler must be a function that makes one .*, got 'StepLR'"):
        fs.ASA(fs.WAU(model), optimizer, scheduler=lr_scheduler.StepLR(optimizer, 1))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"optimizer must be a torch.optim.Optimizer, got str"):
        fs.ASA(fs.WAU(model), "sgd")
