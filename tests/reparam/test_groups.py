"""Which weight decay the parameters of a plain and of an expanded network get."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from reference.nets import assert_same, batch_number, loss_of, net, train
from torch.optim import Adam

import filtersmith as fs


@pytest.mark.parametrize(
    "options",
    [{"weight_decay": -1.0}, {"weight_decay": "x"}, {"inner_weight_decay": float("nan")}, {"decay_factor": True}],
)
def test_decays_out_of_range_name_themselves(options: dict[str, Any]) -> None:
    ((option, value),) = options.items()
    with pytest.raises(ValueError, match=rf"^{option} must be a number of at least 0, got {value!r}$"):
        fs.param_groups(net(), **({"weight_decay": 0.1} | options))


def test_groups_of_a_plain_network_are_one() -> None:
    model = net()
    groups = fs.param_groups(model, 0.1)
    assert len(groups) == 1
    assert [id(p) for p in groups[0]["params"]] == [id(p) for p in model.parameters()]
    ours, theirs = net(), net()
    for network, optimizer in (
        (ours, Adam(fs.param_groups(ours, 0.1), lr=0.01)),
        (theirs, Adam(theirs.parameters(), lr=0.01, weight_decay=0.1)),
    ):
        train(network, optimizer, 3)
    assert_same(ours.state_dict(), theirs.state_dict())
    assert loss_of(ours, batch_number(0)).isfinite()


def test_groups_hold_every_parameter_once_with_the_papers_decay() -> None:
    model = net()
    fs.expand(model, fs.KFLO(3, 2), layers=["dense", "grouped_up", "fc"])
    decays = {id(p): group["weight_decay"] for group in fs.param_groups(model, 0.1) for p in group["params"]}
    assert sum(len(group["params"]) for group in fs.param_groups(model, 0.1)) == len(decays)
    for name, parameter in model.named_parameters():
        expected = 0.1
        if "parametrizations" in name:
            expected = 1e-9 if name.endswith(("original1", "original2")) else 0.0
        assert decays[id(parameter)] == expected, name


def test_a_second_call_changes_the_decay_of_computed_kernels() -> None:
    model = fs.expand(net(), fs.KFLO(), layers=["fc"])
    model.requires_grad_(False)
    filtered = model.fc.parametrizations.weight.original0.requires_grad_()
    gradients = []
    for decay, factor in ((0.0, 0.5), (0.2, 0.5), (0.1, 1.0), (0.0, 0.5)):
        fs.param_groups(model, decay, decay_factor=factor)
        model.fc.weight.sum().backward()
        gradients.append(filtered.grad.clone())
        filtered.grad = None
    assert not torch.equal(gradients[0], gradients[1])
    assert torch.equal(gradients[1], gradients[2]), "twice the factor of half the decay"
    assert torch.equal(gradients[0], gradients[3])


def test_what_is_no_network_and_no_scaler() -> None:
    with pytest.raises(ValueError, match=r"^model must be a torch.nn.Module, got 'list'$"):
        fs.param_groups([net()], 0.1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^scaler must be None or a torch.amp.GradScaler, got 'bool'$"):
        fs.param_groups(net(), 0.1, scaler=True)  # type: ignore[arg-type]
