"""Sliced modules in what users do with networks: copies, files, types, layouts, hooks, torch.compile."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from reference.channel_graphs import ends
from reference.nets import assert_same
from reference.sliced import TIGHT, assert_close_elsewhere, assert_restored, every_other, sliced, step
from reference.subnet import build, entries, loss_of, without
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter, CompileCounterWithBackend

from filtersmith.graph.channels import channel_graph
from filtersmith.pruning.plan import plan
from filtersmith.pruning.subnetwork import leave_out, restore


@pytest.mark.parametrize("name", ["plain", "kinds", "residual", "rows", "own norm"])
def test_copies_and_files(name: str) -> None:
    net = build(name).train()
    like = copy.deepcopy(net)
    graph = sliced(net)
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
        own = channel_graph(twin)
        assert (str(own), own.reasons) == (str(graph), graph.reasons)
        assert ends(own) == ends(graph)
        sites = [[(s.name, s.role, s.inputs, s.within) for s in g.sites.values()] for g in (own, graph)]
        assert sites[0] == sites[1]
        restore(own)
        assert_restored(twin, like)
    assert [type(module) for module in net.modules()] == classes
    restore(graph)
    assert_restored(net, like)


@pytest.mark.parametrize("name", ["plain", "kinds", "residual", "own convolution"])
def test_to_another_type(name: str) -> None:
    net = build(name).eval()
    smaller, images = without(net, every_other(net)).float(), net.images(3, 1).float()
    sliced(net)
    net.to(torch.float32)
    assert net(images).dtype == torch.float32
    torch.testing.assert_close(net(images), smaller(images), rtol=1e-5, atol=1e-5)
    with torch.inference_mode():
        torch.testing.assert_close(net(images), smaller(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["plain", "kinds", "residual", "dense", "own convolution", "own norm"])
def test_channels_last(name: str) -> None:
    net = build(name).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    smaller, gone = without(net, every_other(net)), entries(net, every_other(net))
    sliced(net)
    images = net.images(4, 1).to(memory_format=torch.channels_last)
    for mode in (False, True):
        (ours, gradients), (theirs, expected) = step(net.train(mode), images), step(smaller.train(mode), images)
        torch.testing.assert_close(ours, theirs, **TIGHT)
        assert_close_elsewhere(gradients, expected, gone)


@pytest.mark.parametrize("name", ["plain", "kinds", "residual", "dense", "own norm"])
def test_autocast(name: str) -> None:
    net = build(name).float()
    smaller, gone = without(net, every_other(net)), entries(net, every_other(net))
    sliced(net)
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
    graph = sliced(net)
    assert isinstance(net.conv1, nn.Conv2d)
    step(net, net.images(3, 0))
    expected = ["Conv2d", "BatchNorm2d", "Linear", "Linear, back", "BatchNorm2d, back", "Conv2d, back"]
    assert seen == expected
    restore(graph)
    step(net, net.images(3, 0))
    assert seen == expected * 2


def test_second_derivatives() -> None:
    """As of a penalty on the gradient of the input."""
    net = build("plain")
    net.relu = nn.Tanh()
    smaller, gone = without(net, every_other(net)), entries(net, every_other(net))
    sliced(net)
    found = []
    for one in (net, smaller):
        images = net.images(3, 0).requires_grad_()
        (slope,) = torch.autograd.grad(loss_of(one(images)), images, create_graph=True)
        slope.square().sum().backward()
        found.append({key: p.grad for key, p in one.named_parameters() if p.grad is not None})
    assert_close_elsewhere(*found, gone)


@pytest.mark.parametrize("name", ["plain", "kinds", "needs all", "own norm"])
def test_compiled(name: str) -> None:
    net = build(name)
    graph, plain = channel_graph(net), copy.deepcopy(net)
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
    phases: list[dict[str, Tensor]] = [every_other(net), {name: ~mask for name, mask in every_other(net).items()}]
    for number, dropped in enumerate(phases):
        plain.load_state_dict(net.state_dict())
        smaller = without(plain, dropped)
        leave_out(plan(graph, dropped))
        steps(smaller, entries(net, dropped))
        assert counter.frame_count == 2 + number, "compiled again from step to step"
    restore(graph)
    steps(copy.deepcopy(net), entries(net, {}))
    assert counter.frame_count <= 4
    torch._dynamo.reset()
