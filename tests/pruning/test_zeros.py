"""Entries that are 0 stay 0, whatever an optimizer does; everything else moves as if they were set to 0 by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from reference.nets import (
    Decaying,
    Wrapper,
    assert_same,
    assert_same_run,
    batch_number,
    hooks_of,
    loss_of,
    net,
    train,
)
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from filtersmith.pruning.zeros import KeptAtZero

MAKERS: dict[str, Callable[[Any], Optimizer]] = {
    "momentum-and-decay": lambda p: SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-2),
    "adam": lambda p: Adam(p, lr=0.01, weight_decay=1e-2, foreach=False),
    "adamw-amsgrad-foreach": lambda p: AdamW(p, lr=0.01, amsgrad=True, foreach=True),
    "rmsprop": lambda p: RMSprop(p, lr=0.01, momentum=0.9, centered=True),
    "a step in a step": lambda p: Decaying(p, lr=0.1, momentum=0.9),
}
NAMES = [("dense", "weight"), ("dense", "bias"), ("bn", "weight"), ("up", "weight"), ("fc", "weight")]


def chosen(model: nn.Module) -> dict[tuple[nn.Module, str], Tensor]:
    """Half of the entries of some parameters, of all kinds of modules."""
    generator = torch.Generator().manual_seed(0)
    modules = dict(model.named_modules())
    return {
        (modules[module], name): torch.rand(modules[module].get_parameter(name).shape, generator=generator) < 0.5
        for module, name in NAMES
    }


def states(optimizers: list[Optimizer], parameter: Tensor) -> list[Tensor]:
    found = [value for optimizer in optimizers for value in optimizer.state.get(parameter, {}).values()]
    return [value for value in found if isinstance(value, Tensor) and value.shape == parameter.shape]


def assert_zero(zeros: KeptAtZero, optimizers: list[Optimizer]) -> None:
    for (module, name), mask in zeros.entries.items():
        parameter = module.get_parameter(name)
        kept = states(optimizers, parameter)
        assert kept, "momentum or moments"
        for tensor in (parameter, *kept):
            assert not tensor[mask].any()
            assert tensor[~mask].any()


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
def test_what_is_0_stays_0_as_if_set_by_hand_after_every_step(make: Callable[[Any], Optimizer]) -> None:
    model, twin = net(), net()
    optimizer, bare = make(model.parameters()), make(twin.parameters())
    zeros = KeptAtZero("DSD", optimizer)
    train(model, optimizer, 2)
    train(twin, bare, 2)
    assert_same_run((model, optimizer), (twin, bare))  # without entries it does nothing
    zeros.entries, by_hand = chosen(model), chosen(twin)

    def set_by_hand() -> None:
        with torch.no_grad():
            for (module, name), mask in by_hand.items():
                for tensor in (module.get_parameter(name), *states([bare], module.get_parameter(name))):
                    tensor[mask] = 0

    zeros.apply()
    set_by_hand()
    for n in range(2, 5):
        assert_zero(zeros, [optimizer])
        train(model, optimizer, 1, start=n)
        train(twin, bare, 1, start=n)
        set_by_hand()
    assert_same_run((model, optimizer), (twin, bare))


def test_several_optimizers_are_as_one() -> None:
    """Each with some of the parameters; the entries of all stay 0, whichever of them steps."""
    found = []
    for split in (False, True):
        model = net()
        every = list(model.parameters())
        owned = [[p for p in every if p.ndim > 1], [p for p in every if p.ndim == 1]] if split else [every]
        optimizers: list[Optimizer] = [SGD(some, lr=0.1, momentum=0.9, weight_decay=1e-2) for some in owned]
        zeros = KeptAtZero("DSD", optimizers if split else optimizers[0])
        zeros.entries = chosen(model)
        for n in range(3):
            model.zero_grad()
            loss_of(model, batch_number(n)).backward()
            for optimizer in optimizers:
                optimizer.step()
            assert_zero(zeros, optimizers)
        found.append(model.state_dict())
        zeros.detach()
        assert [hooks_of(model, optimizer) for optimizer in optimizers] == [0] * len(owned)
    assert_same(*found)


def test_a_wrapped_optimizer() -> None:
    """The innermost one steps; the outer one is asked for what it keeps."""
    model = net()
    inner = SGD(model.parameters(), lr=0.1, momentum=0.9)
    zeros = KeptAtZero("DSD", Wrapper(inner))
    zeros.entries = chosen(model)
    train(model, inner, 2)
    assert_zero(zeros, [inner])


def test_detached_it_lets_go_and_attached_it_holds_again() -> None:
    model = net()
    optimizer = MAKERS["adam"](model.parameters())
    zeros = KeptAtZero("DSD", optimizer)
    hooks = hooks_of(model, optimizer)
    zeros.attach()
    assert hooks_of(model, optimizer) == hooks > 0, "once"
    zeros.entries = chosen(model)
    train(model, optimizer, 1)
    zeros.detach()
    zeros.detach()
    assert hooks_of(model, optimizer) == 0
    before = copy.deepcopy(model.state_dict())
    train(model, optimizer, 1)
    assert all(module.get_parameter(name)[mask].any() for (module, name), mask in zeros.entries.items())
    assert not torch.equal(model.state_dict()["dense.weight"], before["dense.weight"])
    zeros.attach()
    train(model, optimizer, 1)
    assert_zero(zeros, [optimizer])


def test_a_step_that_raises_and_one_without_gradients() -> None:
    model = net()
    optimizer = MAKERS["momentum-and-decay"](model.parameters())
    zeros = KeptAtZero("DSD", optimizer)
    zeros.entries = chosen(model)
    train(model, optimizer, 1)

    def closure() -> float:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="memory"):
        optimizer.step(closure)
    optimizer.zero_grad()
    optimizer.step()
    assert_zero(zeros, [optimizer])


def test_a_module_that_was_moved() -> None:
    """``Module.to`` keeps the parameters and changes their data; entries are found by module and name.

    Where there is no other device, in another precision, and with parameters that are new objects.
    """
    model = net()
    zeros = KeptAtZero("DSD", SGD(model.parameters(), lr=0.1))
    zeros.entries = chosen(model)
    model.to("meta")
    zeros.apply()
    assert {mask.device.type for mask in zeros.entries.values()} == {"meta"}
    moved = net().double()
    optimizer = SGD(moved.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2)
    zeros = KeptAtZero("DSD", optimizer)
    zeros.entries = chosen(moved)
    moved.dense.weight = nn.Parameter(moved.dense.weight.detach().clone())  # as load_state_dict(assign=True) does
    zeros.apply()
    for (module, name), mask in zeros.entries.items():
        assert not module.get_parameter(name)[mask].any()
        assert module.get_parameter(name)[~mask].any()
