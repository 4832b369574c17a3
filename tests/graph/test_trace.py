"""The graph of a network's calls against the calls that are made, and that looking leaves no trace."""

from __future__ import annotations

import random
import warnings
from typing import Any

import pytest
import torch
from reference.calls import Calls
from reference.nets import assert_same, net
from reference.ranked_nets import Deciding
from torch import Tensor, nn

from filtersmith import zoo
from filtersmith.graph.trace import kept_elsewhere, parts, trace

LEAVES = (nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm, nn.Linear)


class Own(nn.Conv2d):
    """A convolution with a computation of its own, which must not be looked into."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.shape[2] > 4 else x


class Modes(nn.Module):
    """Another network in training than in evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.own = nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3), Own(3, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.own(self.b(self.a(x))) if self.training else self.own(self.a(x))


def calls_made(network: nn.Module, x: Tensor) -> list[str]:
    """The names of the convolutions, batch norms and linear layers that a forward pass calls, in its order."""
    names: list[str] = []
    handles = [
        module.register_forward_pre_hook(lambda m, a, name=name: names.append(name))
        for name, module in network.named_modules()
        if isinstance(module, LEAVES)
    ]
    network(x)
    for handle in handles:
        handle.remove()
    return names


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("make", "size"),
    [
        (net, 6),
        (Modes, 12),
        *((lambda name=name: zoo.build(name), 32) for name in ("resnet8", "densenet-bc-10-2", "dacnn18-mix-reg-w4")),
    ],
)
def test_the_calls_of_a_whole_network_are_those_that_are_made(make: Any, size: int, training: bool) -> None:
    network = make()
    (part,) = parts(network, training)
    assert (part.prefix, part.module) == ("", network)
    nodes = [node for node in part.graph.nodes if node.op == "call_module" and isinstance(part.called(node), LEAVES)]
    assert [part.name(node) for node in nodes] == calls_made(network.train(training), torch.randn(2, 3, size, size))
    assert all(part.called(node) is network.get_submodule(part.name(node)) for node in nodes)


def test_of_what_cannot_be_traced_the_largest_parts() -> None:
    network = nn.Sequential(Deciding(), nn.Sequential(nn.Unflatten(1, (4, 1, 1)), nn.Conv2d(4, 2, 1)))
    found = parts(network, False)
    assert [(part.prefix, part.module) for part in found] == [("0.body.", network[0].body), ("1.", network[1])]
    names = [part.name(node) for part in found for node in part.graph.nodes if node.op == "call_module"]
    assert names == ["0.body.0", "0.body.1", "0.body.2", "0.body.3", "1.0", "1.1"]
    # Its last convolution is called by code that cannot be traced: it is no part.
    assert calls_made(network, torch.randn(2, 3, 6, 6))[-2] == "0.last"


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_network_of_torch_jit_has_no_parts() -> None:
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    for network in (torch.jit.script(layers), torch.jit.trace(layers, torch.zeros(1, 3, 8, 8))):
        assert parts(network, training=False) == []


def test_leaves_are_single_nodes() -> None:
    network = nn.Sequential(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()), nn.Dropout())
    plain, whole = trace(network), trace(network, (nn.Sequential,))
    assert plain is not None
    assert whole is not None
    assert [node.target for node in plain.nodes if node.op == "call_module"] == ["0.0", "0.1", "1"]
    assert trace(Deciding()) is None
    within = trace(nn.Sequential(Deciding(), nn.ReLU()), (Deciding,))
    assert within is not None
    assert [node.target for node in within.nodes if node.op == "call_module"] == ["0", "1"]


class Untidy(nn.Module):
    """Its code leaves stand-ins for tensors behind, draws, counts, warns and makes tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.last = nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), None
        self.calls, self.seen = 0, []
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        warnings.warn("untidy", stacklevel=1)
        self.calls += 1
        self.count += 1
        self.seen.append(x)
        self.last = self.bn(self.conv(x)) * torch.tensor([2.0, 3.0]).view(2, 1, 1)
        return self.last + torch.rand(())


@pytest.mark.parametrize("traceable", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_left_as_it_was(training: bool, traceable: bool) -> None:
    network = nn.Sequential(Untidy(), nn.Dropout(), *([] if traceable else [Deciding()]))
    network[0].bn.eval()
    network[0].conv.weight.requires_grad_(False)
    attributes = {name: dict(vars(module)) for name, module in network.named_modules()}
    modes = [module.training for module in network.modules()]
    state, random_state, python_state = network.state_dict(), torch.get_rng_state(), random.getstate()
    state = {name: value.clone() for name, value in state.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = parts(network, training)
    assert found[0].prefix == ("" if traceable else "0.")
    assert_same(network.state_dict(), state)
    assert [module.training for module in network.modules()] == modes
    for name, module in network.named_modules():
        assert vars(module).keys() == attributes[name].keys()
        assert all(value is attributes[name][key] for key, value in vars(module).items()), name
    assert torch.equal(torch.get_rng_state(), random_state)
    assert random.getstate() == python_state
    assert network[0].calls == 0
    assert not network[0].conv.weight.requires_grad


def test_tensors_that_the_code_makes_are_kept_with_the_part() -> None:
    (part,) = parts(Untidy(), False)
    used = {str(node.target) for node in part.graph.nodes if node.op == "get_attr"} - {"count"}
    assert used == part.constants.keys()
    assert len(used) >= 1
    assert any(torch.equal(value, torch.tensor([2.0, 3.0]).view(2, 1, 1)) for value in part.constants.values())


def test_what_is_kept_in_plain_containers_and_attributes() -> None:
    def conv() -> nn.Conv2d:
        return nn.Conv2d(3, 3, 1)

    one, two, three, four, five, child = (conv() for _ in range(6))
    inner = nn.Sequential(one, two, three, four, five)
    network = Calls(lambda net, x: x, inner=inner, more=nn.ModuleList([child]))
    assert kept_elsewhere(network) == set()
    network.stages = [one, (two,)]
    network.table = {"a": {"b": three}}
    inner.also = {four}
    vars(inner)["alias"] = five  # as object.__setattr__ does
    network.stages.append(network.stages)  # a list that holds itself
    assert kept_elsewhere(network) == {id(part) for part in (one, two, three, four, five)}


class Keeping(nn.Module):
    """A network that keeps a value of its first call, as torchvision's `MultiScaleRoIAlign` does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.scales: Any = None

    def forward(self, x: Any, size: Any = None) -> Any:
        if self.scales is None:
            self.scales = x.mean()
        return self.conv(x) * self.scales


class Caller(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Keeping()

    def forward(self, x: Any) -> Any:
        return self.inner(x) if float(x.sum()) > 0 else self.inner(x, size=1)


def test_a_graph_with_values_of_another_call_is_none() -> None:
    assert [part.prefix for part in parts(Caller(), True)] == []


def test_the_backbone_of_a_detector_is_a_part() -> None:
    detection = pytest.importorskip("torchvision").models.detection
    for make in (
        detection.fasterrcnn_resnet50_fpn,
        detection.retinanet_resnet50_fpn,
        detection.ssdlite320_mobilenet_v3_large,
    ):
        network = make(weights=None, weights_backbone=None)
        assert "backbone." in {part.prefix for part in parts(network, True)}, make.__name__
