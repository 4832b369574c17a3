"""Layers that were expanded after their optimizer was made."""

from __future__ import annotations

import doctest
from typing import Any

import pytest
import torch
from reference.wrappers import Several
from torch import nn
from torch.optim import SGD

import filtersmith as fs
from filtersmith.methods import untrained as module
from filtersmith.methods.untrained import refuse_expanded_too_late


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.Flatten(),
    )


METHODS = {"kflo": fs.KFLO(2, 2), "do-conv": fs.DOConv(), "acnet": fs.ACNet(), "dbb": fs.DBB()}


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_an_optimizer_that_is_older_than_the_expansion_is_refused(name: str, wrapped: bool) -> None:
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)
    fs.expand(model, METHODS[name])
    given: Any = nn.DataParallel(model) if wrapped else model
    training = fs.compose("wau" if name != "do-conv" else "conv-lr")
    with pytest.raises(
        ValueError, match=r"^optimizer must have every parameter of the expanded layer '0', it lacks some"
    ):
        training.attach(given, optimizer, epochs=1)
    assert not optimizer._optimizer_step_pre_hooks
    refuse_expanded_too_late(model, SGD(fs.param_groups(model, 0.0), lr=0.1))


@pytest.mark.parametrize("name", METHODS)
def test_what_several_optimizers_have_together_is_enough(name: str) -> None:
    model = fs.expand(network(), METHODS[name])
    refuse_expanded_too_late(model, Several(model.parameters(), lr=0.1))
    matrices, vectors = Several(model.parameters(), lr=0.1).all
    refuse_expanded_too_late(model, [matrices, vectors])


@pytest.mark.parametrize("name", METHODS)
def test_an_expanded_layer_that_is_left_out_on_purpose_is_not(name: str) -> None:
    """Frozen, or of another part of the network than the optimizer trains."""
    model = fs.expand(network(), METHODS[name])
    head, loss = nn.Linear(4, 4), nn.Parameter(torch.ones(3))
    refuse_expanded_too_late(model, SGD([*head.parameters(), loss], lr=0.1))
    for parameter in model[0].parameters():
        parameter.requires_grad_(False)
    refuse_expanded_too_late(model, SGD([*model[1:].parameters(), loss], lr=0.1))


def test_any_other_parameter_is_said() -> None:
    model = network()
    training = fs.compose("wau")
    with pytest.warns(
        UserWarning, match=r"^no optimizer has the trainable parameter '0.weight' and 1 more: it stays"
    ):
        training.attach(model, SGD(model[1:].parameters(), lr=0.1), epochs=1)
    assert training.warnings == ["no optimizer has the trainable parameter '0.weight' and 1 more"]


def test_the_example() -> None:
    assert doctest.testmod(module) == (0, 1)
