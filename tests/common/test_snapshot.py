"""Undoing what was done to a network."""

from __future__ import annotations

import pytest
import torch
from reference.nets import assert_same, net
from torch import nn

import filtersmith as fs
from filtersmith.common.snapshot import snapshot


def test_everything_is_put_back() -> None:
    model = net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    names, classes = list(vars(model)), [type(module) for module in model.modules()]
    restore = snapshot(model)
    weight = model.dense.weight
    model.extra = nn.Linear(2, 2)
    model.note = "left by tracing"
    model.dense.weight = nn.Parameter(torch.zeros(8, 3, 3, 3))
    del model.bn
    model.fc.__class__ = type("Other", (nn.Linear,), {})
    with torch.no_grad():
        model.dense.bias.zero_()
    restore()
    assert list(vars(model)) == names
    assert [type(module) for module in model.modules()] == classes
    assert model.dense.weight is weight
    assert_same(model.state_dict(), before)


@pytest.mark.parametrize("look", [fs.ACNet(), fs.DBB()], ids=repr)
def test_hooks_of_before_can_be_removed_afterwards(look: object) -> None:
    model = net()
    handles = [model.fc.register_forward_hook(lambda *_: None), model.register_forward_pre_hook(lambda *_: None)]
    fs.expand(model, look)  # type: ignore[arg-type]
    for handle in handles:
        handle.remove()
    assert not model.fc._forward_hooks
    assert not model._forward_pre_hooks
