"""Starting an optimizer over: bit for bit a new one, with the options that it has."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from reference.nets import assert_same, assert_same_run, batches, loss_of, net, train
from reference.optimizers import (
    Counting,
    InAttributes,
    InDouble,
    MadeInTheConstructor,
    MakeAny,
    Own,
    RowWise,
    SlowWeights,
    Unknowable,
    kernels,
    steps,
)
from torch import Tensor
from torch.optim import LBFGS, SGD, Adafactor, Adagrad, Adam, AdamW, NAdam, Optimizer, RMSprop, Rprop, SparseAdam

from filtersmith.optim.beginning import Beginning, alike, reset

OPTIMIZERS: dict[str, Callable[[Any], Optimizer]] = {
    "momentum": lambda p: SGD(p, lr=0.01, momentum=0.9),
    "adam": lambda p: Adam(p, lr=0.01),
    "adam-fused": lambda p: Adam(p, lr=0.01, fused=True),
    "amsgrad": lambda p: AdamW(p, lr=0.01, amsgrad=True),
    "rmsprop": lambda p: RMSprop(p, lr=0.01, momentum=0.9, centered=True),
    "adagrad": lambda p: Adagrad(p, lr=0.01, initial_accumulator_value=0.5),
    "adagrad-fused": lambda p: Adagrad(p, lr=0.01, fused=True),
    "lbfgs": lambda p: LBFGS(p, lr=0.01, max_iter=2),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_after_reset_it_works_like_a_new_one(name: str, dtype: torch.dtype) -> None:
    make = OPTIMIZERS[name]
    torch.set_default_dtype(dtype)
    try:
        model = net()
        optimizer = make(model.parameters())
        some_steps = _closure_steps if name == "lbfgs" else train
        some_steps(model, optimizer, 2)
        reset(optimizer)
        twin = copy.deepcopy(model)
        fresh = make(twin.parameters())
        assert_same(optimizer.state_dict()["state"], fresh.state_dict()["state"])
        some_steps(model, optimizer, 2)
        some_steps(twin, fresh, 2)
        assert_same_run((model, optimizer), (twin, fresh))
    finally:
        torch.set_default_dtype(torch.float32)


def _closure_steps(model: Any, optimizer: Optimizer, count: int) -> None:
    batch = next(batches())

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(model, batch)
        loss.backward()
        return loss

    for _ in range(count):
        optimizer.step(closure)


KINDS: dict[str, MakeAny] = {
    "a group's rate": lambda p: Adam([{"params": [one], "lr": 0.1 / (1 + n)} for n, one in enumerate(p)]),
    "rate as a tensor": lambda p: NAdam(p, lr=torch.tensor(0.1)),
    "rows": lambda p: Adafactor(p, lr=0.1),
    "the rate in the state": lambda p: Rprop(p, lr=0.1),
    "a vector": RowWise,
    "counter and generator in attributes": Counting,
    "state of the constructor": MadeInTheConstructor,
    "list of tensors in an attribute": InAttributes,
    "slow weights": lambda p: SlowWeights(Counting(p)),
    "slow weights of the constructor's": lambda p: SlowWeights(MadeInTheConstructor(p)),
}
OF_TIMM = ("lamb", "adan", "madgrad", "rmsproptf", "nadamlegacy", "lookahead_lamb", "kron", "muon")


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("name", [*KINDS, *OF_TIMM])
def test_started_over_it_is_a_new_one_in_state_groups_and_attributes(name: str, begun: bool) -> None:
    """Also where its beginning was looked at only after some steps, as in a run that is resumed."""
    if name in KINDS:
        make = KINDS[name]
    else:
        timm = pytest.importorskip("timm.optim")
        make = lambda p: timm.create_optimizer_v2(list(p), name, lr=0.02, weight_decay=0.01)  # noqa: E731
    network = kernels()
    optimizer: Any = make(network.parameters())
    with torch.compiler.set_stance("force_eager"):
        steps(network, optimizer, 5 if begun else 0)
        beginning = Beginning(optimizer)
        for _ in range(2):
            steps(network, optimizer, 5)
            beginning.reset()
            twin = kernels()
            twin.load_state_dict(network.state_dict())
            fresh: Any = make(twin.parameters())
            for _ in range(3):
                assert_same(optimizer.state_dict(), fresh.state_dict())
                torch.manual_seed(0)
                steps(network, optimizer, 1, seed=1)
                torch.manual_seed(0)
                steps(twin, fresh, 1, seed=1)
                assert_same(network.state_dict(), twin.state_dict())


def test_options_stay_and_keys_that_steps_change_do_not() -> None:
    timm = pytest.importorskip("timm.optim")
    network = kernels()
    optimizer = timm.create_optimizer_v2(network, "lamb", lr=0.02)
    before = [dict(group) for group in optimizer.param_groups]
    beginning = Beginning(optimizer)
    steps(network, optimizer, 2)
    assert optimizer.param_groups[0]["step"] == 2
    for group in optimizer.param_groups:
        group["lr"], group["weight_decay"], group["mine"] = 0.5, 0.25, "note"
    beginning.reset()
    changed = {"lr": 0.5, "weight_decay": 0.25, "mine": "note"}
    assert_same(
        [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups],
        [{k: v for k, v in group.items() if k != "params"} | changed for group in before],
    )


def test_reset_keeps_learning_rates_groups_and_added_groups() -> None:
    model = net()
    optimizer = Adagrad([{"params": model.dense.parameters(), "lr": 0.3}], lr=0.1, initial_accumulator_value=0.2)
    optimizer.add_param_group({"params": model.fc.parameters(), "lr": 0.7})
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    reset(optimizer)  # the added group has no state yet: torch's Adagrad could not step it
    assert [group["lr"] for group in optimizer.param_groups] == [0.3, 0.7]
    assert optimizer.state[model.dense.weight]["sum"].unique().tolist() == pytest.approx([0.2])
    optimizer.step()


def test_refused_by_name_where_the_constructor_cannot_be_called_again() -> None:
    with pytest.raises(ValueError, match="Unknowable cannot be started over: its constructor") as said:
        Beginning(Unknowable(kernels().parameters(), 1.0))
    assert "\n" not in str(said.value)


class OnParameters(Own):
    """Keeps its momentum as an attribute of each parameter."""

    def update(self, p: Any, grad: Any, state: Any, group: Any) -> None:
        p.m = getattr(p, "m", torch.zeros(())) * 0.9 + grad
        p.sub_(p.m, alpha=group["lr"])


@pytest.mark.parametrize("late", [False, True])
def test_what_parameters_have_is_started_over(late: bool) -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = OnParameters([weight])
    weight.grad = torch.ones(3)
    if late:
        optimizer.step()
    beginning = Beginning(optimizer)
    optimizer.step()
    assert weight.m.norm() > 0
    beginning.reset()
    assert not hasattr(weight, "m")
    optimizer.step()
    assert torch.equal(weight.m, weight.grad)


def test_refused_where_parameters_have_it_and_nobody_knows_what_it_was() -> None:
    class Unknown(OnParameters):
        def __init__(self, params: Any, secret: Any) -> None:
            super().__init__(params)

    optimizer = Unknown([weight := torch.nn.Parameter(torch.ones(3))], 1)
    weight.grad = torch.ones(3)
    Beginning(optimizer)
    optimizer.step()
    with pytest.raises(
        ValueError, match=r"^Unknown cannot be started over: it has begun, .* attributes of parameters"
    ):
        Beginning(optimizer)


def test_weights_in_a_higher_precision_are_those_of_now() -> None:
    model = net()
    optimizer = InDouble(model.parameters())
    beginning = Beginning(optimizer)
    train(model, optimizer, 2)
    with torch.no_grad():
        next(model.parameters()).add_(1)
    beginning.reset()
    for p, double in zip(model.parameters(), optimizer.double, strict=True):
        assert torch.equal(p.double(), double)


def test_what_no_copy_can_step_only_forgets_its_state() -> None:
    weight = torch.nn.Parameter(torch.ones(4, 2))
    optimizer = SparseAdam([weight])
    beginning = Beginning(optimizer)
    weight.grad = torch.ones(4, 2).to_sparse()
    optimizer.step()
    beginning.reset()
    assert not optimizer.state


def test_alike() -> None:
    same = {"a": [1, torch.ones(2)], "b": torch.Generator().manual_seed(1)}
    assert alike(same, {"a": [1, torch.ones(2)], "b": torch.Generator().manual_seed(1)})
    for other in (
        {"a": [1, torch.ones(3)], "b": same["b"]},
        {"a": [2, torch.ones(2)], "b": same["b"]},
        {"a": [1, torch.ones(2)], "b": torch.Generator().manual_seed(2)},
        {"a": [1, torch.ones(2)]},
    ):
        assert not alike(same, other)
