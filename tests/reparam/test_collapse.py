"""The network that is deployed: plain, of its own, and computing the same, whatever the method."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
from reference.expansions import METHODS, every, images, randomise, sgd, trained
from reference.nets import Net, assert_same, batch_number, net, train, train_step
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils.parametrize import cached
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import filtersmith as fs

PAPERS = [method for method in METHODS if method != "kflo-3"]
"""The methods as their papers have them."""


@every
def test_the_deployed_network_is_plain_and_computes_the_same(method: str) -> None:
    model, _ = trained(method)
    randomise(model)
    model.eval()
    before = copy.deepcopy(model.state_dict())
    outputs = model(images)
    deployed = fs.collapse(model)
    assert type(deployed) is Net
    torch.testing.assert_close(deployed(images), outputs, rtol=0, atol=1e-5)
    for one, other in zip(deployed.modules(), net().modules(), strict=True):
        assert type(one) is type(other)
    fresh = net(5)
    fresh.load_state_dict(deployed.state_dict(), strict=True)
    assert list(fresh.state_dict()) == list(deployed.state_dict())
    assert_same(fresh.eval()(images), deployed(images))
    again = fs.collapse(deployed)
    assert again is not deployed
    assert_same(again.state_dict(), deployed.state_dict())
    assert_same(model.state_dict(), before)
    with torch.no_grad():
        for parameter in deployed.parameters():
            parameter.zero_()
    assert_same(model.state_dict(), before), "nothing is shared"


@every
def test_the_source_trains_on_as_if_nothing_had_happened(method: str) -> None:
    model, optimizer = trained(method)
    undisturbed = copy.deepcopy((model, optimizer.state_dict()))
    fs.collapse(model)
    train(model, optimizer, 2, start=7)
    twin = undisturbed[0]
    theirs = sgd(twin)
    theirs.load_state_dict(undisturbed[1])
    train(twin, theirs, 2, start=7)
    assert_same(model.state_dict(), twin.state_dict())


@every
def test_deep_copies_train_by_themselves(method: str) -> None:
    model, _ = trained(method)
    before = copy.deepcopy(model.state_dict())
    twin = copy.deepcopy(model)
    train(twin, sgd(twin), 2)
    assert_same(model.state_dict(), before)
    assert not torch.equal(twin.eval()(images), model.eval()(images))
    torch.testing.assert_close(fs.collapse(twin)(images), twin(images), rtol=0, atol=1e-5)


@every
def test_averaged_models_average_what_is_trained(method: str) -> None:
    model, optimizer = trained(method)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    expected = {}
    for step in range(3):
        train(model, optimizer, 1, start=step)
        averaged.update_parameters(model)
        for name, parameter in model.named_parameters():
            now = parameter.detach().clone()
            expected[name] = now if step == 0 else 0.5 * expected[name] + 0.5 * now
    for name, parameter in averaged.module.named_parameters():
        torch.testing.assert_close(parameter, expected[name])
    averaged.eval()
    deployed = fs.collapse(averaged)
    torch.testing.assert_close(deployed(images), averaged(images), rtol=0, atol=1e-5)
    net().load_state_dict(deployed.module.state_dict(), strict=True)


@pytest.mark.parametrize("method", PAPERS)
def test_compiled_networks_train_and_collapse(method: str) -> None:
    model, plain = net(), None
    fs.expand(model, METHODS[method])
    plain = copy.deepcopy(model)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    for network in (compiled, plain):
        train(network, sgd(network), 2)
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    deployed = fs.collapse(compiled)
    assert type(deployed) is Net
    torch.testing.assert_close(deployed.eval()(images), plain.eval()(images), rtol=1e-4, atol=1e-5)
    expanded_late = torch.compile(net(), backend="eager")
    assert fs.expand(expanded_late, METHODS[method]) is expanded_late
    assert sum(p.numel() for p in expanded_late.parameters()) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", ["resnet", "mobilenet_v3_small"])
@pytest.mark.parametrize("method", PAPERS)
def test_networks_of_torchvision(method: str, name: str) -> None:
    models = pytest.importorskip("torchvision.models")
    # Of a ResNet one block each: all that a deeper one has, in less time.
    resnet = partial(models.ResNet, models.resnet.BasicBlock, [1, 2, 1, 1])
    make = resnet if name == "resnet" else partial(models.get_model, name)
    model = make(num_classes=10)
    names = list(model.state_dict())
    fs.expand(model, METHODS[method])
    x = torch.randn(4, 3, 48, 48)
    model.train()(x).square().mean().backward()
    assert all(p.grad is not None for p in model.parameters())
    randomise(model)
    model.eval()
    deployed = fs.collapse(model)
    assert list(deployed.state_dict()) == names
    outputs = model(x)
    torch.testing.assert_close(deployed(x), outputs, rtol=0, atol=1e-5 * float(outputs.detach().abs().max()))
    make(num_classes=10).load_state_dict(deployed.state_dict(), strict=True)


def test_a_layer_that_is_used_twice_stays_one() -> None:
    shared = nn.Conv2d(3, 3, 3, padding=1)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    fs.expand(model, fs.KFLO())
    deployed = fs.collapse(model)
    assert deployed[0] is deployed[2]
    assert type(deployed[0]) is nn.Conv2d


def test_attributes_hooks_and_frozen_weights_come_along() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    model[0].tag = "stem"
    seen: list[int] = []
    model[0].register_forward_hook(lambda *_: seen.append(1))
    fs.expand(model, fs.KFLO())
    for parameter in model[1].parameters():
        parameter.requires_grad_(False)
    deployed = fs.collapse(model.eval())
    assert deployed[0].tag == "stem"
    assert not deployed.training
    deployed(torch.randn(1, 3, 8, 8))
    assert seen == [1]
    assert [p.requires_grad for p in deployed.parameters()] == [True, True, False, False]


class Remembers(nn.Module):
    """It keeps what it computed; deepcopy refuses that."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.utils.weight_norm(nn.Conv2d(4, 4, 3))
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen = [self.conv(x)]
        return self.norm(self.seen[0])  # type: ignore[no-any-return]


def test_computed_tensors_that_modules_keep() -> None:
    model = Remembers()
    fs.expand(model, fs.KFLO(width=2))
    model(images).sum().backward()
    deployed = fs.collapse(model)
    torch.testing.assert_close(deployed(images), model(images))
    assert deployed.seen[0] is not model.seen[0]


def test_values_that_torch_caches_are_not_deployed() -> None:
    model, optimizer = trained("kflo")
    with cached():
        model(images)
        train_step(model, optimizer, batch_number(3))
        deployed = fs.collapse(model)
    assert_same(deployed.eval()(images), model.eval()(images))


def test_it_works_on_the_meta_device_and_in_low_precision() -> None:
    with torch.device("meta"):
        model = fs.expand(net(), fs.KFLO(width=2))
    assert fs.collapse(model).fc.weight.is_meta
    model = net().bfloat16()
    before = model(images.bfloat16())
    fs.expand(model, fs.KFLO())
    assert_same(model(images.bfloat16()), before)
    assert fs.collapse(model).fc.weight.dtype == torch.bfloat16


def test_someone_elses_parametrization_on_top_is_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    fs.expand(model, fs.KFLO())
    parametrizations.spectral_norm(model[0])
    with pytest.raises(
        ValueError, match=r"^layer '0' has a parametrization of its weight that collapse does not know$"
    ):
        fs.collapse(model)


class NoteTaker(nn.Module):
    """A hook that is bound to the network itself, and a layer inside a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)
        self.conv.inner = nn.Linear(2, 2)
        self.conv.register_forward_hook(self.note)
        self.seen = 0

    def note(self, *_: Any) -> None:
        self.seen += 1

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


def test_layers_inside_layers_and_hooks_of_the_network_belong_to_the_deployed_one() -> None:
    model = fs.expand(NoteTaker(), fs.KFLO())
    deployed = fs.collapse(model)
    NoteTaker().load_state_dict(deployed.state_dict(), strict=True)
    deployed(images)
    assert (deployed.seen, model.seen) == (1, 0)


def test_a_layer_that_was_compiled_in_place_deploys_its_own_weights() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    model[0].compile(backend="aot_eager")
    fs.expand(model, fs.KFLO())
    x = torch.randn(2, 4)
    deployed = fs.collapse(model)
    before = deployed(x).detach().clone()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert_same(deployed(x).detach(), before)
