"""The sub-network computes what the smaller network would. The oracle is in reference/subnet.py."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Mapping
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
from reference.subnet import NETS, Net, build, entries, loss_of, without
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter, CompileCounterWithBackend
from torch.nn.parallel import DistributedDataParallel

from filtersmith.graph.channels import read
from filtersmith.pruning.subnetwork import belongings, computes_fewer, leave_out, put_in, readers

Dropped = dict[str, Tensor]
TIGHT = {"rtol": 1e-9, "atol": 1e-11}


@st.composite
def sets(draw: Any, net: Net) -> Dropped:
    """Of some layers, some filters, and not all."""
    dropped = {}
    for name, filters in net.layers.items():
        mask = torch.tensor(draw(st.lists(st.booleans(), min_size=filters, max_size=filters)))
        mask[draw(st.integers(0, filters - 1))] = False
        if mask.any() or draw(st.booleans()):
            dropped[name] = mask
    return dropped


def every_other(net: Net) -> Dropped:
    return {name: torch.arange(filters) % 2 == 1 for name, filters in net.layers.items()}


def step(net: nn.Module, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    net.zero_grad()
    output = net(images)
    loss_of(output).backward()
    return output.detach(), {name: p.grad for name, p in net.named_parameters() if p.grad is not None}


def assert_close_elsewhere(
    ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], gone: Mapping[str, Tensor]
) -> None:
    assert set(ours) == set(theirs)
    for name, tensor in ours.items():
        kept = ~gone[name]
        torch.testing.assert_close(tensor[kept], theirs[name][kept], msg=lambda m, name=name: f"{name}: {m}", **TIGHT)


def assert_whole(net: nn.Module, like: nn.Module) -> None:
    """Every module has its own class again, and nothing that it had not."""
    for ours, theirs in zip(net.modules(), like.modules(), strict=True):
        assert type(ours) is type(theirs)
        assert list(vars(ours)) == list(vars(theirs))


@settings(max_examples=60)
@given(st.sampled_from(sorted(NETS)), st.integers(0, 1000), st.data())
def test_it_is_the_smaller_network(name: str, seed: int, data: st.DataObject) -> None:
    net = build(name, seed)
    plain = copy.deepcopy(net)
    keys, channels = list(net.state_dict()), read(net)
    assert {producer.name for producer in channels.producers} >= set(net.layers)
    for first in (True, False):  # another set directly after the first one
        dropped = data.draw(sets(net))
        plain.load_state_dict(net.state_dict())
        smaller, gone = without(plain, dropped), entries(net, dropped)
        still = copy.deepcopy(net.state_dict())
        leave_out(channels, dropped)
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
            put_in(channels)
    put_in(channels)
    assert_whole(net, plain)
    plain.load_state_dict(net.state_dict())
    images = net.images(3, seed)
    for mode in (True, False):
        assert_same(net.train(mode)(images), plain.train(mode)(images))


@pytest.mark.parametrize("name", NETS)
def test_in_float32(name: str) -> None:
    net = build(name).float().eval()
    dropped = every_other(net)
    smaller, images = without(net, dropped), net.images(4, 0).float()
    leave_out(read(net), dropped)
    torch.testing.assert_close(net(images), smaller(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NETS)
def test_belongings_and_readers_are_what_was_written_by_hand(name: str) -> None:
    net = build(name)
    channels, dropped = read(net), every_other(net)
    gone, names = entries(net, dropped), {module: key for key, module in net.named_modules()}
    found = {key: torch.zeros_like(mask) for key, mask in gone.items()}
    own = belongings(channels, dropped)
    assert len({one.module for one in own}) == len(own)
    for one in own:
        for key, tensor in (*one.module.named_parameters(), *one.module.named_buffers()):
            if key != "num_batches_tracked":
                transposed = isinstance(one.module, nn.ConvTranspose2d) and key == "weight"
                place = found[f"{names[one.module]}.{key}"]
                assert place.shape == tensor.shape
                if transposed and one.module.groups > 1:
                    per_group = tensor.shape[1]
                    for f in one.rows.tolist():
                        place.unflatten(0, (one.module.groups, -1))[f // per_group, :, f % per_group] = True
                else:
                    place[(slice(None), one.rows) if transposed else one.rows] = True
    for site, positions in readers(channels, dropped):
        assert site.role in ("convolution", "linear")
        place = found[f"{site.name}.weight"]
        if site.role == "linear":
            place.unflatten(1, (len(site.inputs), -1))[:, positions] = True
        elif isinstance(site.module, nn.ConvTranspose2d):
            place[positions] = True
        else:
            groups = site.module.groups  # type: ignore[attr-defined]
            for c in positions.tolist():
                place.unflatten(0, (groups, -1))[c // place.shape[1], :, c % place.shape[1]] = True
    assert_same(found, gone)


def test_fewer_channels_are_computed() -> None:
    """Every tensor between layers of a plain network is narrow, and no zeros are multiplied."""
    net = build("plain")
    shapes = {}
    for name in ("a", "bn1", "b", "bn2"):
        net.get_submodule(name).register_forward_hook(lambda m, i, o, name=name: shapes.update({name: o.shape[1]}))
    channels = read(net)
    leave_out(channels, {"a": torch.tensor([True, False, True, True]), "b": torch.tensor([False, True, False])})
    net(net.images(2, 0))
    assert shapes == {"a": 1, "bn1": 1, "b": 2, "bn2": 2}
    assert all(computes_fewer(producer) for producer in channels.producers)
    masked = {producer.name for producer in read(build("kinds")).producers if not computes_fewer(producer)}
    assert masked == {"g", "t"}
    assert not any(computes_fewer(producer) for producer in read(build("own convolution")).producers)


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
    leave_out(read(net), {"one": torch.tensor([True, False, True, False])})
    torch.testing.assert_close(net(x), gated + other)
    assert type(net.gate).__name__ == "Sigmoid"


def test_nothing_left_out_changes_nothing() -> None:
    net = build("kinds")
    like = copy.deepcopy(net)
    leave_out(read(net), {name: torch.zeros(filters, dtype=torch.bool) for name, filters in net.layers.items()})
    assert_whole(net, like)


# --- what users do with networks -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "kinds", "residual", "rows", "own norm"])
def test_copies_and_files(name: str) -> None:
    net = build(name).train()
    like, channels = copy.deepcopy(net), read(net)
    dropped = every_other(net)
    leave_out(channels, dropped)
    classes = [type(module) for module in net.modules()]
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    images = net.images(3, 1)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), loaded):
        assert [type(module) for module in twin.modules()] == classes
        assert all(a is not b for a, b in zip(twin.parameters(), net.parameters(), strict=True))
        assert_same(twin.state_dict(), net.state_dict())
        assert_same(copy.deepcopy(twin)(images), copy.deepcopy(net)(images))
        # Of a copy, the channels are read as ever, and it becomes whole without the original.
        own = read(twin)
        described = [[(p.name, p.end, p.whole, p.refusal) for p in c.producers] for c in (own, channels)]
        assert described[0] == described[1]
        sites = [{s.name: (s.role, s.inputs.tolist(), s.within) for s in c.sites.values()} for c in (own, channels)]
        assert sites[0] == sites[1]
        put_in(own)
        assert_whole(twin, like)
    assert [type(module) for module in net.modules()] == classes
    put_in(channels)
    assert_whole(net, like)


@pytest.mark.parametrize("name", ["plain", "kinds", "residual", "own convolution"])
def test_to_another_type(name: str) -> None:
    net = build(name).eval()
    smaller, images = without(net, every_other(net)).float(), net.images(3, 1).float()
    leave_out(read(net), every_other(net))
    net.to(torch.float32)
    assert net(images).dtype == torch.float32
    torch.testing.assert_close(net(images), smaller(images), rtol=1e-5, atol=1e-5)
    with torch.inference_mode():
        torch.testing.assert_close(net(images), smaller(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["plain", "kinds", "residual", "dense", "own convolution", "own norm"])
def test_channels_last(name: str) -> None:
    net = build(name).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    smaller, gone = without(net, every_other(net)), entries(net, every_other(net))
    leave_out(read(net), every_other(net))
    images = net.images(4, 1).to(memory_format=torch.channels_last)
    for mode in (False, True):
        (ours, gradients), (theirs, expected) = step(net.train(mode), images), step(smaller.train(mode), images)
        torch.testing.assert_close(ours, theirs, **TIGHT)
        assert_close_elsewhere(gradients, expected, gone)


@pytest.mark.parametrize("name", ["plain", "kinds", "residual", "dense", "own norm"])
def test_autocast(name: str) -> None:
    net = build(name).float()
    smaller, gone = without(net, every_other(net)), entries(net, every_other(net))
    leave_out(read(net), every_other(net))
    images = net.images(4, 1).float()
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = net(images), smaller(images)
    assert ours.dtype == theirs.dtype == torch.bfloat16
    torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.05)
    loss_of(ours.float()).backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.dtype == torch.float32
        assert not parameter.grad[gone[key]].any()


def test_hooks_run_as_ever() -> None:
    net, seen = build("residual"), []
    for module in (net.conv1, net.bn1, net.fc):
        module.register_forward_hook(lambda module, inputs, output: seen.append(type(module).__name__))
        module.register_full_backward_hook(lambda module, *gradients: seen.append(f"{type(module).__name__}, back"))
    channels = read(net)
    leave_out(channels, every_other(net))
    assert isinstance(net.conv1, nn.Conv2d)
    step(net, net.images(3, 0))
    expected = ["Conv2d", "BatchNorm2d", "Linear", "Linear, back", "BatchNorm2d, back", "Conv2d, back"]
    assert seen == expected
    put_in(channels)
    step(net, net.images(3, 0))
    assert seen == expected * 2


def test_second_derivatives() -> None:
    """As of a penalty on the gradient of the input."""
    net = build("plain")
    net.relu = nn.Tanh()
    smaller, gone = without(net, every_other(net)), entries(net, every_other(net))
    leave_out(read(net), every_other(net))
    found = []
    for one in (net, smaller):
        images = net.images(3, 0).requires_grad_()
        (slope,) = torch.autograd.grad(loss_of(one(images)), images, create_graph=True)
        slope.square().sum().backward()
        found.append({key: p.grad for key, p in one.named_parameters() if p.grad is not None})
    assert_close_elsewhere(*found, gone)


# --- torch.compile and processes -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "kinds", "needs all", "own norm"])
def test_compiled(name: str) -> None:
    net = build(name)
    channels, plain = read(net), copy.deepcopy(net)
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager") if name == "plain" else CompileCounter()
    compiled = torch.compile(net, backend=counter, fullgraph=True, dynamic=False)

    def steps(expected: nn.Module, gone: dict[str, Tensor]) -> None:
        for n in range(3):
            images = net.images(3, n)
            (ours, gradients), (theirs, wanted) = step(compiled, images), step(expected, images)
            torch.testing.assert_close(ours, theirs, **TIGHT)
            gradients = {key.removeprefix("_orig_mod."): gradient for key, gradient in gradients.items()}
            assert_close_elsewhere(gradients, wanted, gone)

    steps(copy.deepcopy(net), entries(net, {}))
    assert counter.frame_count == 1
    phases: list[Dropped] = [every_other(net), {name: ~mask for name, mask in every_other(net).items()}]
    for number, dropped in enumerate(phases):
        plain.load_state_dict(net.state_dict())
        smaller = without(plain, dropped)
        leave_out(channels, dropped)
        steps(smaller, entries(net, dropped))
        assert counter.frame_count == 2 + number, "compiled again from step to step"
    put_in(channels)
    steps(copy.deepcopy(net), entries(net, {}))
    assert counter.frame_count <= 4
    torch._dynamo.reset()


def lean_run(name: str, rank: int = 0, world: int = 1) -> list[dict[str, Tensor]]:
    """Gradients and weights of some steps of a lean network, on this rank's part of each batch."""
    net = build(name)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()  # a rank's own statistics would be those of its half of the batch
    model: nn.Module = DistributedDataParallel(net) if world > 1 else net
    channels, found = read(net), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for phase, n in ((0, 0), (1, 1), (1, 2), (2, 3), (0, 4)):
        put_in(channels)
        if phase:
            turned = {key: mask ^ (phase == 2) for key, mask in every_other(net).items()}
            leave_out(channels, turned)
        images = net.images(4, n)[rank::world]
        optimizer.zero_grad()
        model(images).square().mean().backward()
        optimizer.step()
        found.append({key: p.detach().clone() for key, p in net.named_parameters()})
        found.append({key: p.grad.clone() for key, p in net.named_parameters() if p.grad is not None})
    return found


def in_ranks() -> dict[str, Any]:
    return {name: lean_run(name, dist.get_rank(), 2) for name in ("plain", "kinds", "residual")}


def test_two_processes_are_one(tmp_path: Path) -> None:
    ranks = two_processes.run(in_ranks, tmp_path)
    assert_same(ranks[0], ranks[1])
    for name, run in ranks[0].items():
        for ours, theirs in zip(run, lean_run(name), strict=True):
            torch.testing.assert_close(ours, theirs, **TIGHT)
