"""Running a network without leaving a trace."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from reference.nets import assert_same
from torch import Tensor, nn

from filtersmith.graph.trace import parts
from filtersmith.measure.evaluation import Nodes, batches, contiguous_weights, replaced_forward, undisturbed


class Counting(nn.Module):
    """Its buffer counts; ``train`` does more than torch's."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.drop = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5)
        self.register_buffer("calls", torch.zeros(()))
        self.switched = 0

    def train(self, mode: bool = True) -> Counting:
        self.switched += 1
        return super().train(mode)

    def forward(self, x: Tensor, scale: float = 2.0) -> Tensor:
        self.calls += 1
        return self.drop(self.bn(self.conv(x))) * scale  # type: ignore[no-any-return]


def test_undisturbed() -> None:
    network = Counting()
    network.bn.eval()
    before, modes = copy.deepcopy(network.state_dict()), [module.training for module in network.modules()]
    drawn, buffers = torch.get_rng_state(), list(network.buffers())
    with undisturbed(network):
        assert not any(module.training for module in network.modules())
        first, second = (network(torch.ones(2, 3, 2, 2)) for _ in range(2))
        assert torch.equal(first, second)
        network.calls = torch.full((), 7.0)  # another tensor in its place
        torch.rand(3)
    assert_same(network.state_dict(), before)
    assert [module.training for module in network.modules()] == modes
    assert all(a is b for a, b in zip(network.buffers(), buffers, strict=True))
    assert torch.equal(torch.get_rng_state(), drawn)
    assert network.switched == 0
    with pytest.raises(RuntimeError, match="channels"), undisturbed(network):
        network(torch.ones(2, 5, 2, 2))  # it has counted before it fails
    assert_same(network.state_dict(), before)


def test_batches() -> None:
    images, labels = torch.randn(2, 3), torch.tensor([0, 1])
    given: Any = [(images, labels), [images[:0], labels[:0]], (images, ["cat", "dog"], "more")]
    found = list(batches(given, torch.device("cpu")))
    assert len(found) == 2, "an empty batch is passed over"
    assert torch.equal(found[0][1], labels)
    assert found[1][1] == ["cat", "dog"]
    with pytest.raises(ValueError, match=r"^data is empty"):
        list(batches([], torch.device("cpu")))
    with pytest.raises(ValueError, match=r"^a batch of data must be a tuple \(images, labels\), got 'Tensor'$"):
        list(batches([images], torch.device("cpu")))


def test_contiguous_weights_for_a_while() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    weight, pointer, strides = network[0].weight, network[0].weight.data_ptr(), network[0].weight.stride()
    with contiguous_weights(network):
        assert network[0].weight is weight
        assert weight.is_contiguous()
    assert (weight.data_ptr(), weight.stride()) == (pointer, strides)


def test_nodes_and_replaced_forward() -> None:
    network = Counting().eval()
    x = torch.randn(2, 3, 2, 2)
    (part,) = parts(network, training=False)
    for arguments, options in (((x,), {}), ((x, 3.0), {}), ((x,), {"scale": 4.0})):
        expected = network(*arguments, **options)
        assert torch.equal(Nodes(part).call(*arguments, **options), expected)
    with replaced_forward(network, lambda x: x + 1):
        assert torch.equal(network(x), x + 1)
    assert torch.equal(network(x), Nodes(part).call(x))
    assert "forward" not in vars(network)
    own = network.forward = lambda x: x * 0  # type: ignore[method-assign, assignment]
    with replaced_forward(network, lambda x: x + 1):
        pass
    assert network.forward is own
