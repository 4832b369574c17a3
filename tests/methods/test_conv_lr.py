"""The control: the same as putting convolutions into parameter groups by hand."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.nets import CONVOLUTIONS, assert_same, assert_same_run, net, train
from reference.wrappers import OWN, SAM, SHARED, Pair, processes
from torch import nn
from torch.optim import LBFGS, SGD, Adam, Optimizer, lr_scheduler

import filtersmith as fs
from filtersmith.optim.groups import levels_with_groups, scheduled
from filtersmith.optim.wrappers import innermost_of


def convolutions(model: nn.Module) -> list[nn.Parameter]:
    return [model.get_submodule(name).weight for name in CONVOLUTIONS]


def others(model: nn.Module) -> list[nn.Parameter]:
    mine = {id(p) for p in convolutions(model)}
    return [p for p in model.parameters() if id(p) not in mine]


@pytest.mark.parametrize("options", [{"momentum": 0.9, "weight_decay": 1e-2}, {"momentum": 0.9, "nesterov": True}])
@pytest.mark.parametrize("schedule", [False, True])
def test_it_equals_groups_made_by_hand(options: dict[str, Any], schedule: bool) -> None:
    model, twin = net(), net()
    optimizer = SGD(model.parameters(), lr=0.1, **options)
    fs.ConvLR(model, rate=0.3).attach(optimizer)
    by_hand = SGD(
        [{"params": others(twin)}, {"params": convolutions(twin), "lr": 0.1 * 0.3}],
        lr=0.1,
        **options,
    )
    for m, o in ((model, optimizer), (twin, by_hand)):
        scheduler = lr_scheduler.MultiStepLR(o, [1, 2], gamma=0.1)
        for step in range(3):
            train(m, o, 1, start=step)
            if schedule:
                scheduler.step()
    assert_same_run((model, optimizer), (twin, by_hand))
    rates = [group["lr"] for group in optimizer.param_groups]
    assert rates == pytest.approx([0.1 * 0.01, 0.03 * 0.01] if schedule else [0.1, 0.03])


def test_every_group_is_split_with_its_own_rate() -> None:
    model = net()
    optimizer = Adam(
        [
            {"params": [model.dense.weight, model.dense.bias], "lr": 0.4, "weight_decay": 0.3},
            {"params": model.fc.parameters()},
            {"params": [model.up.weight]},
        ],
        lr=torch.tensor(0.2),
        foreach=False,
    )
    with pytest.warns(
        UserWarning, match="ConvLR: no optimizer that it knows has the weight of 'grouped' and 3 more of"
    ):
        control = fs.ConvLR(model, rate=0.5).attach(optimizer)
    got = [(float(g["lr"]), g["weight_decay"], [tuple(p.shape) for p in g["params"]]) for g in optimizer.param_groups]
    assert got == [
        (pytest.approx(0.4), 0.3, [(8,)]),
        (pytest.approx(0.2), 0, [(4, 196), (4,)]),
        (pytest.approx(0.2), 0, []),
        (pytest.approx(0.2), 0.3, [(8, 3, 3, 3)]),
        (pytest.approx(0.1), 0, [(6, 5, 3, 3)]),
    ]
    control.detach()
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 2, 1]


def test_it_comes_before_the_schedule() -> None:
    optimizer = SGD((model := net()).parameters(), lr=0.1)
    schedule = lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5)
    with pytest.raises(ValueError, match=r"no schedule yet, got one with LambdaLR, .*: attach conv-lr first"):
        fs.ConvLR(model, rate=0.3).attach(optimizer)
    assert len(optimizer.param_groups) == 1
    schedule.step()


def test_a_schedule_that_multiplies_what_the_groups_have_may_come_first() -> None:
    optimizer = SGD((model := net()).parameters(), lr=0.1)
    schedule = lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    fs.ConvLR(model, rate=0.3).attach(optimizer)
    optimizer.step()
    schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.05, 0.015])


def test_a_second_schedule_starts_from_the_slower_rate() -> None:
    model = net()
    optimizer = SGD(model.parameters(), lr=0.1)
    lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5)  # leaves initial_lr behind
    fs.ConvLR(model, rate=0.3).attach(optimizer)
    lr_scheduler.LambdaLR(optimizer, lambda epoch: 1.0)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1, 0.03])


def test_rate_one_is_the_bare_optimizer_bit_for_bit() -> None:
    model, twin = net(), net()
    optimizer, bare = (SGD(m.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2) for m in (model, twin))
    fs.ConvLR(model, rate=1.0).attach(optimizer)
    train(model, optimizer, 3)
    train(twin, bare, 3)
    assert_same(model.state_dict(), twin.state_dict())
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert_same(optimizer.state[ours], bare.state[theirs])


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("reloaded", [False, True])
def test_detaching_restores_the_groups(named: bool, reloaded: bool) -> None:
    model, twin = net(), net()

    def make(model: nn.Module) -> Optimizer:
        return SGD(model.named_parameters() if named else model.parameters(), lr=0.1, momentum=0.9)

    optimizer, plain = make(model), make(twin)
    control = fs.ConvLR(model, rate=0.3).attach(optimizer)
    if named:
        of = {id(p): name for name, p in model.named_parameters()}
        for group in optimizer.param_groups:
            assert group["param_names"] == [of[id(p)] for p in group["params"]]
    if reloaded:  # torch makes the groups' dictionaries anew
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    control.detach()
    control.detach()
    assert_same(optimizer.state_dict(), plain.state_dict())
    train(model, optimizer, 2)
    train(twin, plain, 2)
    assert_same_run((model, optimizer), (twin, plain))
    control.attach(optimizer)
    assert len(optimizer.param_groups) == 2


def test_what_it_cannot_do_is_refused_before_anything_changes() -> None:
    model = net()
    lbfgs = LBFGS(model.parameters())
    with pytest.raises(ValueError, match="LBFGS has one learning rate for all parameters"):
        fs.ConvLR(model).attach(lbfgs)
    assert len(lbfgs.param_groups) == 1
    optimizer = SGD(model.parameters(), lr=0.1)
    control = fs.ConvLR(model).attach(optimizer)
    groups = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match=r"already attached to this SGD: call detach\(\) first"):
        control.attach(optimizer)
    assert_same(optimizer.state_dict(), groups)
    with pytest.raises(ValueError, match=r"saved with rate=0.5, this one has 0.3"):
        fs.ConvLR(model, rate=0.3).load_state_dict(control.state_dict())
    for rate in (0, -1, 1.01, "half", True, float("nan")):
        with pytest.raises(ValueError, match="rate must be a number in"):
            fs.ConvLR(model, rate=rate)


def test_an_optimizer_with_none_of_the_layers_is_worth_a_warning() -> None:
    with pytest.warns(UserWarning, match="ConvLR: this optimizer has none of its 6 layers"):
        fs.ConvLR(net()).attach(SGD(net().parameters(), lr=0.1))


# --- wrappers -------------------------------------------------------------------------------------------------


def slow_and_fast(optimizer: Any, model: nn.Module) -> set[tuple[bool, float]]:
    """Whether a parameter is a convolution's, and the rate that its innermost optimizer gives it."""
    mine = {id(p) for p in convolutions(model)}
    groups = [group for inner in innermost_of(optimizer) for group in inner.param_groups]
    return {(id(p) in mine, round(float(group["lr"]), 9)) for group in groups for p in group["params"]}


def lists_of(optimizer: Any) -> list[list[list[int]]]:
    """The parameters of all groups at all levels."""
    return [
        [[id(p) for p in group["params"]] for group in level.param_groups] for level in levels_with_groups(optimizer)
    ]


@pytest.mark.parametrize("name", SHARED)
def test_on_a_wrapper_a_schedule_of_the_outer_optimizer_reaches_the_slower_groups(name: str) -> None:
    model, twin = net(), net()
    optimizer = SHARED[name](model.parameters(), lr=0.1, momentum=0.9)
    before = lists_of(optimizer)
    by_hand = SGD([{"params": others(twin)}, {"params": convolutions(twin), "lr": 0.03}], lr=0.1, momentum=0.9)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="ConvLR")
        control = fs.ConvLR(model, rate=0.3).attach(optimizer)
    schedules = [lr_scheduler.StepLR(one, 1, gamma=0.1) for one in scheduled(optimizer)]
    twins = lr_scheduler.StepLR(by_hand, 1, gamma=0.1)
    for step in range(2):
        assert slow_and_fast(optimizer, model) == {
            (True, round(0.03 * 0.1**step, 9)),
            (False, round(0.1 ** (step + 1), 9)),
        }
        train(model, optimizer, 1, start=step)
        train(twin, by_hand, 1, start=step)
        for schedule in (*schedules, twins):
            schedule.step()
    if "lookahead" not in name:  # which goes back half of its way every second step
        assert_same(model.state_dict(), twin.state_dict())
    control.detach()
    assert [[sorted(group) for group in level] for level in lists_of(optimizer)] == [
        [sorted(group) for group in level] for level in before
    ]


@pytest.mark.parametrize("name", OWN)
def test_groups_that_a_wrapper_does_not_share_are_refused(name: str, tmp_path: Path) -> None:
    """ZeRO has given the parameters of each group to ranks already."""
    processes(tmp_path)
    try:
        model = net()
        optimizer = OWN[name](model.parameters(), lr=0.1)
        before = lists_of(optimizer)
        with pytest.raises(
            ValueError, match=r"does not share its parameter groups with the SGD inside: instead of"
        ) as e:
            fs.ConvLR(model).attach(optimizer)
        assert "\n" not in str(e.value)
        assert lists_of(optimizer) == before
    finally:
        torch.distributed.destroy_process_group()


def test_an_optimizer_without_learning_rates_is_refused() -> None:
    class Unrated(Optimizer):
        def __init__(self, params: Any) -> None:
            super().__init__(params, {})

    with pytest.raises(
        ValueError, match=r"^Unrated has no learning rate in its parameter groups: conv-lr needs one$"
    ):
        fs.ConvLR(model := net()).attach(Unrated(model.parameters()))


def test_where_a_group_cannot_be_added_all_is_put_back() -> None:
    class Fixed(SGD):
        made = False

        def add_param_group(self, param_group: dict[str, Any]) -> None:
            if self.made:
                raise RuntimeError("no more groups")
            super().add_param_group(param_group)

    model = net()
    first, *rest = model.parameters()
    fixed = Fixed(rest, lr=0.1)
    fixed.made = True
    optimizers = [SGD([first], lr=0.1), fixed]
    control = fs.ConvLR(model)
    before = [lists_of(one) for one in optimizers]
    with pytest.raises(RuntimeError, match="no more groups"):
        control.attach(optimizers)
    assert [lists_of(one) for one in optimizers] == before
    fixed.made = False
    control.attach(optimizers)
    assert len(fixed.param_groups) == 2


def test_two_in_one_is_already_attached_to_by_either() -> None:
    model = net()
    optimizer = Pair(model.parameters(), lr=0.1)
    control = fs.ConvLR(model).attach(optimizer)
    for one in (
        optimizer,
        optimizer.matrices,
        SAM([nn.Parameter(torch.ones(1))], base=lambda *_, **__: optimizer, lr=0.1),
    ):
        with pytest.raises(ValueError, match="already attached to this SGD"):
            control.attach(one)
