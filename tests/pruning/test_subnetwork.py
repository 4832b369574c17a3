"""The sub-network computes what the smaller network would. The oracle is in reference/subnet.py."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import two_processes
from reference.calls import Calls
from reference.nets import assert_same
from reference.sliced import TIGHT, assert_close_elsewhere, assert_restored, every_other, sliced, step
from reference.subnet import NETS, Net, build, entries, without
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from filtersmith.graph.channels import channel_graph
from filtersmith.pruning.plan import plan
from filtersmith.pruning.subnetwork import computes_fewer, leave_out, left_out, restore


@st.composite
def sets(draw: Any, net: Net) -> dict[str, Tensor]:
    """Of some layers, some filters, and not all."""
    dropped = {}
    for name, filters in net.layers.items():
        mask = torch.tensor(draw(st.lists(st.booleans(), min_size=filters, max_size=filters)))
        mask[draw(st.integers(0, filters - 1))] = False
        if mask.any() or draw(st.booleans()):
            dropped[name] = mask
    return dropped


@settings(max_examples=20)
@given(st.sampled_from(sorted(NETS)), st.integers(0, 1000), st.data())
def test_it_is_the_smaller_network(name: str, seed: int, data: st.DataObject) -> None:
    net = build(name, seed)
    plain = copy.deepcopy(net)
    keys, graph = list(net.state_dict()), channel_graph(net)
    assert set(graph.producers) >= set(net.layers)
    for first in (True, False):  # another set directly after the first one
        dropped = data.draw(sets(net))
        plain.load_state_dict(net.state_dict())
        smaller, gone = without(plain, dropped), entries(net, dropped)
        still = copy.deepcopy(net.state_dict())
        leave_out(plan(graph, dropped))
        assert list(net.state_dict()) == keys
        for mode in (False, True):
            net.train(mode), smaller.train(mode)
            for n in range(2):
                images = net.images(3, seed + n)
                (ours, gradients), (theirs, expected) = step(net, images), step(smaller, images)
                torch.testing.assert_close(ours, theirs, **TIGHT)
                assert_close_elsewhere(gradients, expected, gone)
                for key, gradient in gradients.items():
                    assert not gradient[gone[key]].any(), f"{key} moves"
        state = net.state_dict()
        assert_close_elsewhere(state, smaller.state_dict(), gone)
        for key, tensor in state.items():
            assert torch.equal(tensor[gone[key]], still[key][gone[key]]), f"{key} moved"
        if first and data.draw(st.booleans()):
            restore(graph)
    restore(graph)
    assert_restored(net, plain)
    plain.load_state_dict(net.state_dict())
    images = net.images(3, seed)
    for mode in (True, False):
        assert_same(net.train(mode)(images), plain.train(mode)(images))


@pytest.mark.parametrize("name", NETS)
def test_in_float32(name: str) -> None:
    net = build(name).float().eval()
    dropped = every_other(net)
    smaller, images = without(net, dropped), net.images(4, 0).float()
    sliced(net, dropped)
    torch.testing.assert_close(net(images), smaller(images), rtol=1e-5, atol=1e-5)


def test_fewer_channels_are_computed() -> None:
    """Every tensor between layers of a plain network is narrow, and no zeros are multiplied."""
    net = build("plain")
    shapes = {}
    graph = sliced(net, {"a": torch.tensor([True, False, True, True]), "b": torch.tensor([False, True, False])})
    for name in ("a", "bn1", "b", "bn2"):
        net.get_submodule(name).register_forward_hook(lambda m, i, o, name=name: shapes.update({name: o.shape[1]}))
    net(net.images(2, 0))
    assert shapes == {"a": 1, "bn1": 1, "b": 2, "bn2": 2}
    assert all(computes_fewer(producer) for producer in graph.producers.values())
    masked = {p.name for p in channel_graph(build("kinds")).producers.values() if not computes_fewer(p)}
    assert masked == {"g", "t"}
    assert not any(
        computes_fewer(producer) for producer in channel_graph(build("own convolution")).producers.values()
    )


def test_what_is_wide_gets_zeros_behind_the_end_of_its_row() -> None:
    """Also where the activation there makes something else of zeros."""
    net = Calls(
        lambda s, x: s.gate(s.bn(s.one(x))) + s.two(x),
        one=nn.Conv2d(2, 4, 1),
        bn=nn.BatchNorm2d(4),
        gate=nn.Sigmoid(),
        two=nn.Conv2d(2, 4, 1),
    )
    nn.init.uniform_(net.bn.bias)
    x = torch.randn(2, 2, 3, 3)
    gated, other = net.gate(net.bn.eval()(net.one(x))), net.two(x)
    gated[:, [0, 2]] = 0
    sliced(net, {"one": torch.tensor([True, False, True, False])})
    torch.testing.assert_close(net(x), gated + other)
    assert type(net.gate).__name__ == "Sigmoid"


def test_nothing_left_out_changes_nothing() -> None:
    net = build("kinds")
    like = copy.deepcopy(net)
    sliced(net, {name: torch.zeros(filters, dtype=torch.bool) for name, filters in net.layers.items()})
    assert_restored(net, like)


def sliced_run(name: str, rank: int = 0, world: int = 1) -> list[dict[str, Tensor]]:
    """Gradients and weights of some steps of a sliced network, on this rank's part of each batch."""
    net = build(name)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()  # a rank's own statistics would be those of its half of the batch
    model: nn.Module = DistributedDataParallel(net) if world > 1 else net
    graph, found = channel_graph(net), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for phase, n in ((0, 0), (1, 1), (1, 2), (2, 3), (0, 4)):
        restore(graph)
        if phase:
            turned = {key: mask ^ (phase == 2) for key, mask in every_other(net).items()}
            leave_out(plan(graph, turned))
        images = net.images(4, n)[rank::world]
        optimizer.zero_grad()
        model(images).square().mean().backward()
        optimizer.step()
        found.append({key: p.detach().clone() for key, p in net.named_parameters()})
        found.append({key: p.grad.clone() for key, p in net.named_parameters() if p.grad is not None})
    return found


def in_ranks() -> dict[str, Any]:
    return {name: sliced_run(name, dist.get_rank(), 2) for name in ("plain", "kinds", "residual")}


def test_two_processes_are_one(tmp_path: Path) -> None:
    ranks = two_processes.run(in_ranks, tmp_path)
    assert_same(ranks[0], ranks[1])
    for name, run in ranks[0].items():
        for ours, theirs in zip(run, sliced_run(name), strict=True):
            torch.testing.assert_close(ours, theirs, **TIGHT)


@pytest.mark.parametrize("name", ["plain", "kinds", "own convolution"])
def test_which_filters_are_left_out_now(name: str) -> None:
    net = build(name)
    dropped = every_other(net)
    graph = sliced(net, {"a": dropped["a"]})
    found = {layer: left_out(net.get_submodule(layer)) for layer in net.layers}
    mask = found.pop("a")
    assert mask is not None
    assert torch.equal(mask, dropped["a"])
    assert set(found.values()) == {None}, "also of what reads its channels"
    restore(graph)
    assert left_out(net.a) is None


class Remembers(nn.Module):
    """It adds what it saw in the call before; while it is traced there has been none."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)
        self.before: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).relu()
        x = x if self.before is None else x + self.before
        self.before = x.detach()
        return self.b(x)  # type: ignore[no-any-return]


def test_what_is_kept_for_another_call_has_all_of_its_channels() -> None:
    net, images = Remembers(), torch.randn(2, 3, 4, 4)
    gone = torch.tensor([True, False, False, True])
    expected = [net.a(images).relu().masked_fill(gone.view(1, -1, 1, 1), 0) * n for n in (1, 2)]
    graph = channel_graph(net)
    leave_out(plan(graph, {"a": gone}))
    for kept in expected:
        torch.testing.assert_close(net(images), net.b(kept))
        torch.testing.assert_close(net.before, kept)
    restore(graph)
    net(images)
