"""Stacking trained networks, as a composition does it."""

from __future__ import annotations

import pytest
import torch
from reference.nets import assert_same, batch_number, net
from torch import nn
from torch.optim import SGD

import filtersmith as fs

IMAGES, LABELS = batch_number(0)


def outputs(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(IMAGES)


def test_it_starts_as_the_first_network_and_its_width_is_their_number() -> None:
    networks = {str(seed): net(seed=seed) for seed in (1, 2, 3)}
    training = fs.compose("kflo(networks=['1','2','3'])", resolve=networks.__getitem__)
    model = training.prepare(net(seed=9))
    torch.testing.assert_close(outputs(model), outputs(networks["1"]))
    kernel = model.dense.parametrizations.weight.original0
    assert torch.equal(kernel, torch.cat([networks[name].dense.weight for name in "123"]))
    assert str(training) == "kflo(networks=['1','2','3'])"


def test_what_has_another_shape_begins_as_it_was_drawn() -> None:
    other = net(seed=1)
    other.fc = nn.Linear(4 * 7 * 7, 7)
    model, fresh = net(seed=9), net(seed=9)
    training = fs.compose("kflo(networks=[a])", resolve=lambda name: other)
    deployed = fs.collapse(training.prepare(model))
    assert_same(deployed.fc.weight, fresh.fc.weight)
    torch.testing.assert_close(deployed.dense.weight, other.dense.weight)


def test_it_trains_and_deploys_the_plain_network() -> None:
    training = fs.compose("kflo(depth=2,networks=[a,b],decay_factor=1.0)", resolve=lambda name: net(seed=len(name)))
    model = training.prepare(net())
    optimizer = SGD(training.param_groups(model, 1e-2), lr=0.1)
    training.attach(model, optimizer, epochs=1)
    nn.functional.cross_entropy(model(IMAGES), LABELS).backward()
    optimizer.step()
    training.end_batch()
    training.end_epoch()
    assert training.finish().state_dict().keys() == net().state_dict().keys()


@pytest.mark.parametrize(
    ("text", "network", "said"),
    [
        ("kflo(networks=[])", None, "networks must be a list of trained networks, got"),
        ("kflo(width=7,networks=[a])", nn.Linear(3, 2), "width must be left out with networks, .*, got 7"),
        (
            "kflo(init=default,networks=[a])",
            nn.Linear(3, 2),
            "init must be left out with networks, .*, got 'default'",
        ),
        ("kflo(networks=3)", None, "networks must be a list of trained networks, got 3"),
        ("kflo(networks=[a])", nn.Linear(3, 2), "networks must be of the class of the network that is trained"),
    ],
)
def test_what_does_not_fit_is_refused(text: str, network: nn.Module | None, said: str) -> None:
    model = net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=said):
        fs.compose(text, resolve=lambda name: network).prepare(model)
    assert_same(model.state_dict(), before)
