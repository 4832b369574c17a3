"""Groups at all levels of wrapped optimizers: found, written, put back."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.wrappers import OWN, SHARED, Apart, NoRate, processes
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from filtersmith.optim.groups import Groups, differs, group_options, levels_with_groups, saved_groups, scheduled
from filtersmith.optim.wrappers import innermost_of

OUTERMOST = {
    "plain": ["SGD"],
    "sam": ["SAM"],
    "loose sam": ["LooseSAM"],
    "lookahead": ["Lookahead"],
    "accelerate": ["AcceleratedOptimizer"],
    "lightning": ["LightningSGD"],
    "two in one": ["Pair"],
    "several": ["SGD", "SGD"],
    "sam of lookahead": ["SAM"],
    "no rate outside": ["SGD"],
    "zero": ["ZeroRedundancyOptimizer"],
    "apart": ["Apart"],
}
every_wrapper = pytest.mark.parametrize("name", OUTERMOST)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Any]:
    """Makes a wrapper, by name, of a matrix and a vector."""
    processes(tmp_path)

    def made(name: str, **options: Any) -> Any:
        parameters = [nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))]
        return (SHARED | OWN)[name](parameters, **{"lr": 0.1, "momentum": 0.9, **options})

    yield made
    torch.distributed.destroy_process_group()


def at_all_levels(optimizer: Any) -> list[list[dict[str, Any]]]:
    return [[group_options(group) for group in level.param_groups] for level in levels_with_groups(optimizer)]


@every_wrapper
def test_whose_schedules_are(name: str, make: Any) -> None:
    assert [type(one).__name__ for one in scheduled(make(name))] == OUTERMOST[name]


def test_without_learning_rates_it_is_the_outermost(make: Any) -> None:
    class Plain(Optimizer):
        def __init__(self) -> None:
            super().__init__([nn.Parameter(torch.ones(1))], {})

    inner, outer, other = Plain(), Plain(), Plain()
    outer.base = inner  # type: ignore[attr-defined]
    assert scheduled([outer, other]) == (outer, other)


@every_wrapper
def test_groups_are_put_back_at_all_levels(name: str, make: Any) -> None:
    optimizer = make(name)
    before = copy.deepcopy(at_all_levels(optimizer))
    put_back = saved_groups(optimizer)
    for level in levels_with_groups(optimizer):
        for group in level.param_groups:
            group["lr"] = 7.0
            group["initial_lr"] = 8.0
    inner = innermost_of(optimizer)[0]
    inner.add_param_group({"params": [nn.Parameter(torch.ones(1))]})
    put_back()
    assert at_all_levels(optimizer) == before


@pytest.mark.parametrize("rate", [0.1, torch.tensor(0.1)])
@every_wrapper
def test_what_is_written_is_so_at_all_levels(name: str, rate: Any, make: Any) -> None:
    optimizer = make(name, lr=rate if isinstance(rate, float) else rate.clone())
    held = [group["lr"] for inner in innermost_of(optimizer) for group in inner.param_groups]
    for one in scheduled(optimizer):
        groups = Groups(one)
        groups.write([{**own, "lr": 0.025, "momentum": 0.5} for own in groups.options()])
        assert groups.rates() == [0.025] * len(one.param_groups)
    now = [group for inner in innermost_of(optimizer) for group in inner.param_groups]
    assert [(float(group["lr"]), group["momentum"]) for group in now] == [(pytest.approx(0.025), 0.5)] * len(now)
    if not isinstance(rate, float):
        assert all(group["lr"] is was for group, was in zip(now, held, strict=True)), (
            "compiled optimizers hold on to it"
        )


def test_what_a_level_has_of_its_own_is_left() -> None:
    """Another decay than the outer one's, and a counter that its steps keep."""
    optimizer = Apart([nn.Parameter(torch.ones(2))], lr=0.1, weight_decay=0.2)
    (inner,) = innermost_of(optimizer)
    inner.param_groups[0]["weight_decay"] = 0.3
    for level in (optimizer, inner):
        level.param_groups[0]["step"] = 0
    groups = Groups(optimizer)
    inner.param_groups[0]["step"] = 5
    with groups.passed_on():
        optimizer.param_groups[0].update(lr=0.01, weight_decay=0.4)
    assert (inner.param_groups[0]["lr"], inner.param_groups[0]["weight_decay"]) == (0.01, 0.3)
    assert inner.param_groups[0]["step"] == 5
    inner.param_groups[0]["lr"] = 9.0  # of a state that was loaded
    with groups.passed_on():
        pass
    assert inner.param_groups[0]["lr"] == 0.01, "the rates are the outer ones in any case"


def test_each_group_has_its_outer_one_by_its_parameters() -> None:
    """Also where the levels have them in another order."""
    first, second = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = NoRate([{"params": [first]}, {"params": [second]}], lr=0.1)
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    optimizer.optim.param_groups.reverse()
    groups = Groups(optimizer)
    groups.write([{"lr": 1.0}, {"lr": 2.0}])
    assert [(g["params"][0] is first, g["lr"]) for g in optimizer.optim.param_groups] == [(False, 2.0), (True, 1.0)]


def test_rates_that_do_not_reach_the_inner_optimizer() -> None:
    optimizer = Apart([nn.Parameter(torch.ones(2))], lr=0.1)
    assert Groups(optimizer).unreached() is None
    innermost_of(optimizer)[0].param_groups[0]["lr"] = 0.5
    assert Groups(optimizer).unreached() is innermost_of(optimizer)[0]


def test_values_of_options_compare() -> None:
    rate = AdamW([nn.Parameter(torch.ones(1))], lr=torch.tensor(0.5)).param_groups[0]["lr"]
    assert not differs(rate, 0.5)
    assert not differs(rate, torch.tensor(0.5))
    assert differs(rate, 0.25)
    assert differs(rate, None)
    assert differs((0.9, 0.99), (0.9, 0.9))
    assert not differs((0.9, torch.tensor(0.9))[0], 0.9)


def test_of_an_optimizer_alone_nothing_is_looked_for() -> None:
    optimizer = SGD([nn.Parameter(torch.ones(2))], lr=0.1)
    assert levels_with_groups(optimizer) == [optimizer]
    Groups(optimizer).forget("momentum")
    assert "momentum" not in optimizer.param_groups[0]
