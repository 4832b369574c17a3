"""Running a network without a trace: modes, buffers, generators, memory and code are as before, also after errors."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import pytest
import torch
from reference.nets import assert_same, net
from reference.ranked_nets import case
from torch import Tensor, fx, nn

from filtersmith.graph.trace import parts
from filtersmith.measure.evaluation import (
    Nodes,
    batches,
    contiguous_weights,
    device_of,
    replaced_forward,
    undisturbed,
)


class Overriding(nn.Module):
    """Its ``train`` does other things as well, and its forward pass counts, draws and replaces a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.bn, self.drop, self.switched = nn.BatchNorm2d(3), nn.Dropout(), 0
        self.register_buffer("count", torch.zeros(2))
        self.register_buffer("none", None)

    def train(self, mode: bool = True) -> Overriding:
        self.switched += 1
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        assert not self.training
        self.count += 1
        self.count = self.count * 2
        return self.drop(self.bn(x)) + torch.rand(())


class Stop(Exception):  # noqa: N818
    """What a caller may do in the middle."""


@pytest.mark.parametrize("error", [None, Stop])
def test_undisturbed(error: type[Exception] | None) -> None:
    network = Overriding()
    network.bn.eval()
    switched = network.switched
    modes = [module.training for module in network.modules()]
    assert modes == [True, False, True]
    buffers = dict(network.named_buffers())
    state = {name: value.clone() for name, value in network.state_dict().items()}
    generators = torch.get_rng_state(), random.getstate()
    x = torch.randn(2, 3, 4, 4)
    generators = torch.get_rng_state(), random.getstate()

    with contextlib.suppress(Stop), torch.inference_mode(), undisturbed(network):
        assert not any(module.training for module in network.modules())
        assert not torch.is_inference_mode_enabled(), "gradients can be asked for"
        x.requires_grad_()
        (gradient,) = torch.autograd.grad(network(x.clone()).sum(), x)
        assert gradient.any()
        assert network.count.tolist() == [2, 2]
        if error is not None:
            raise error

    assert network.switched == switched
    assert [module.training for module in network.modules()] == modes
    assert {name: id(value) for name, value in network.named_buffers()} == {n: id(v) for n, v in buffers.items()}
    assert_same(network.state_dict(), state)
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert random.getstate() == generators[1]


def test_buffers_that_did_not_change_are_not_written_to() -> None:
    network = nn.BatchNorm2d(3)
    versions = [buffer._version for buffer in network.buffers()]
    with undisturbed(network):
        network(torch.randn(2, 3, 2, 2))
    assert [buffer._version for buffer in network.buffers()] == versions
    assert network.training


def test_compiled_parts_run_as_plain_code() -> None:
    inner = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU())
    compiled = torch.compile(inner, backend=lambda graph, inputs: pytest.fail("compiled"))
    seen: list[int] = []
    inner[0].register_forward_hook(lambda *_: seen.append(1))
    with undisturbed(inner):
        compiled(torch.randn(1, 3, 2, 2))
    assert seen == [1]


# --- data ----------------------------------------------------------------------------------------------------


def test_batches_are_pairs_without_the_empty_ones() -> None:
    images, labels = torch.randn(3, 1, 2, 2), torch.tensor([0, 1, 2])
    data = [(images, labels), [images[:0], labels[:0]], (images, ["a", "b", "c"], "more")]
    found = list(batches(iter(data), torch.device("cpu")))
    assert [(len(x), y) for x, y in found] == [(3, labels), (3, ["a", "b", "c"])]
    (moved,) = batches(data[:1], torch.device("meta"))
    assert (moved[0].device.type, moved[1].device.type) == ("meta", "meta")


@pytest.mark.parametrize("data", [[], [(torch.empty(0, 3, 2, 2), torch.empty(0))]])
def test_no_image_is_an_error_of_its_own(data: Any) -> None:
    with pytest.raises(ValueError, match=r"^data is empty: there is no image to measure on$"):
        list(batches(data, torch.device("cpu")))


@pytest.mark.parametrize("wrong", [torch.zeros(2), (torch.zeros(2),), {"image": 1}, ("a", "b"), 3])
def test_what_is_no_pair_is_named(wrong: Any) -> None:
    kind = type(wrong).__name__
    with pytest.raises(ValueError, match=rf"^a batch of data must be a tuple \(images, labels\), got '{kind}'$"):
        list(batches([wrong], torch.device("cpu")))


def test_the_device_of_a_network() -> None:
    assert device_of(nn.Linear(1, 1)).type == "cpu"
    assert device_of(nn.Linear(1, 1, device="meta")).type == "meta"


# --- memory and code -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [None, Stop])
def test_weights_are_contiguous_for_a_while(error: type[Exception] | None) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv3d(4, 2, 3), nn.Linear(2, 2))
    network[0].to(memory_format=torch.channels_last)
    before = [(p, p.data_ptr(), p.stride(), p.detach().clone()) for p in network.parameters()]
    with contextlib.suppress(Stop), contiguous_weights(network):
        for parameter, address, _, values in before:
            assert parameter.is_contiguous()
            assert torch.equal(parameter, values)
            assert (parameter.data_ptr() == address) == (parameter is not network[0].weight), "only what has to"
        if error is not None:
            raise error
    assert all(now is p for now, (p, *_) in zip(network.parameters(), before, strict=True))
    assert [(p.data_ptr(), p.stride()) for p, *_ in before] == [(address, stride) for _, address, stride, _ in before]


@pytest.mark.parametrize("error", [None, Stop])
@pytest.mark.parametrize("own", [True, False])
def test_another_forward_for_a_while(own: bool, error: type[Exception] | None) -> None:
    network, other = nn.Linear(2, 2), nn.Linear(2, 2)
    if own:  # as accelerate does, for instance
        network.forward = lambda x: x + 1  # type: ignore[method-assign]
    x = torch.randn(1, 2)
    expected, forward = network(x), vars(network).get("forward")
    with contextlib.suppress(Stop), replaced_forward(network, lambda x: x * 3):
        assert torch.equal(network(x), x * 3)
        assert not torch.equal(other(x), x * 3), "of this one alone"
        if error is not None:
            raise error
    assert vars(network).get("forward") is forward
    assert ("forward" in vars(network)) == own
    assert torch.equal(network(x), expected)


# --- nodes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["net", "vanilla", "resnet", "wrn", "dense", "gated", "inverted", "overwriting"])
@torch.no_grad()
def test_node_by_node_it_is_the_network(name: str) -> None:
    some = case(name)
    network, x = some.model.eval(), torch.randn(2, 3, some.size, some.size)
    (part,) = parts(network, training=False)
    assert torch.equal(Nodes(part).call(x), network(x))


class Arguments(nn.Module):
    """Arguments with defaults, and a tensor that the code makes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor, factor: float = 2.0, *, more: float = 0.5) -> Tensor:
        return self.conv(x) * factor + torch.tensor([1.0, 3.0]).view(2, 1, 1) * more


@torch.no_grad()
def test_arguments_by_place_by_name_and_by_default_and_constants() -> None:
    network, x = Arguments(), torch.randn(2, 3, 2, 2)
    (part,) = parts(network, training=False)
    assert "_tensor_constant0" not in vars(network)
    for arguments, keywords in (((x,), {}), ((), {"x": x})):
        assert torch.equal(Nodes(part).call(*arguments, **keywords), network(*arguments, **keywords))
    for arguments, keywords in (((x, 3.0), {}), ((), {"x": x, "factor": 4.0}), ((x,), {"more": 7.0})):
        with pytest.raises(TypeError, match=r"^Arguments is looked at as it is called with \(x\) alone$"):
            Nodes(part).call(*arguments, **keywords)


@torch.no_grad()
def test_nodes_can_be_watched_and_errors_stay_as_they_are() -> None:
    (part,) = parts(net().eval(), training=False)
    seen: list[str] = []

    class Watching(Nodes):
        def run_node(self, n: fx.Node) -> Any:
            seen.append(n.name)
            return super().run_node(n)

    Watching(part).call(torch.randn(1, 3, 6, 6))
    assert seen == [node.name for node in part.graph.nodes]
    with pytest.raises(RuntimeError) as plain:
        net()(torch.randn(1, 2, 6, 6))
    with pytest.raises(RuntimeError) as found:
        Nodes(part).call(torch.randn(1, 2, 6, 6))
    assert str(found.value) == str(plain.value)
