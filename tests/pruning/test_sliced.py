"""Sliced modules in what users do with networks: copies, files, types, layouts, hooks, torch.compile."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from typing import Any

import pytest
import torch
from reference.calls import Calls
from reference.nets import assert_same
from reference.sliced import TIGHT, assert_close_elsewhere, assert_restored, every_other, sliced, step
from reference.subnet import NETS, build, entries, loss_of, without
from torch import Tensor, func, nn
from torch._dynamo.testing import CompileCounter, CompileCounterWithBackend
from torch.autograd import forward_ad
from torch.optim.swa_utils import AveragedModel

from filtersmith.common.subphase import Owner
from filtersmith.graph.channels import channel_graph
from filtersmith.pruning.masks import not_by_zeros
from filtersmith.pruning.plan import plan
from filtersmith.pruning.subnetwork import leave_out, restore


def copies_of(net: nn.Module) -> list[nn.Module]:
    """One for each way that people make them in."""
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    return [
        copy.deepcopy(net),
        AveragedModel(net).module,
        loaded,
        *(pickle.loads(pickle.dumps(net, n)) for n in (1, 5)),
    ]


@pytest.mark.parametrize("name", NETS)
def test_copies_and_files_are_plain_and_compute_the_same(name: str) -> None:
    net = build(name).train()
    like = copy.deepcopy(net)
    graph = sliced(net)
    classes, before = [type(module) for module in net.modules()], copy.deepcopy(net.state_dict())
    by_hand = without(like, every_other(net)).state_dict()
    for twin in copies_of(net):
        assert_restored(twin, like)
        assert all(a is not b for a, b in zip(twin.parameters(), net.parameters(), strict=True))
        state = twin.state_dict()
        for key, gone in entries(net, every_other(net)).items():
            assert torch.equal(state[key][~gone], before[key][~gone]), key
            assert bool((state[key][gone] == key.endswith("running_var")).all()), key
        assert_same(
            {k: v for k, v in state.items() if "running" not in k},
            {k: by_hand[k] for k in state if "running" not in k},
        )
        live = pickle.loads(pickle.dumps(net.state_dict()))
        for mode in (False, True):
            images = net.images(3, 1)
            torch.testing.assert_close(twin.train(mode)(images), net.train(mode)(images), **TIGHT)
        net.load_state_dict(live)  # statistics have moved
    assert [type(module) for module in net.modules()] == classes
    assert_same(net.state_dict(), before, "the network's own state is complete")
    restore(graph)
    assert_restored(net, like)


def test_a_copy_goes_with_the_copy_of_its_optimizer_and_trains_on_as_a_plain_network() -> None:
    net = build("residual")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    sliced(net)
    step(net, net.images(4, 0))
    optimizer.step()
    twin, its = copy.deepcopy((net, optimizer))
    plain = build("residual")
    plain.load_state_dict(twin.state_dict())
    other = torch.optim.SGD(plain.parameters(), lr=0.01, momentum=0.9)
    other.load_state_dict(optimizer.state_dict())
    before = copy.deepcopy(net.state_dict())
    for n in range(1, 4):
        for one, mover in ((twin, its), (plain, other)):
            step(one, net.images(4, n))
            mover.step()
    assert_same(twin.state_dict(), plain.state_dict())
    assert not torch.equal(twin.conv1.weight, before["conv1.weight"]), "it trains"
    assert_same(net.state_dict(), before, "the original")


def test_a_copy_that_shares_the_parameters_computes_with_fewer_as_well() -> None:
    """There can be no zeros in them: they are the original's, too."""
    net = build("kinds").eval()
    before = copy.deepcopy(net.state_dict())
    sliced(net)
    images = net.images(2, 0)
    expected = net(images)
    sharing = copy.deepcopy(net, {id(parameter): parameter for parameter in net.parameters()})
    assert_same(sharing(images), expected)
    net.a = copy.copy(net.a)
    assert_same(net(images), expected)
    assert_same(net.state_dict(), before)


def sum_of_two(net: Any, x: Tensor) -> Tensor:
    return net.added(net.a(x)) + net.b(x)  # type: ignore[no-any-return]


def computed_behind_a_sigmoid() -> nn.Module:
    return nn.Sequential(nn.Sigmoid(), nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 4, 1)))


@pytest.mark.parametrize("added", [nn.Sigmoid(), computed_behind_a_sigmoid()])
def test_where_zeros_cannot_do_it_copies_compute_with_fewer_as_well(added: nn.Module) -> None:
    net = Calls(sum_of_two, a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(3, 4, 1), added=added).eval()
    graph = channel_graph(net)
    reasons = not_by_zeros(net, graph)
    assert "a" in reasons
    leave_out(plan(graph, {"a": torch.tensor([True, False, False, True])}), reasons)
    images = torch.randn(2, 3, 5, 5)
    twins = [copy.deepcopy(net)]
    if isinstance(added, nn.Sigmoid):  # torch itself does not pickle spectral norm
        twins.append(pickle.loads(pickle.dumps(net)))
    for twin in twins:
        assert_same(twin.state_dict(), net.state_dict())
        assert_same(copy.deepcopy(twin)(images), net(images))
        restore(channel_graph(twin))
        assert not torch.allclose(twin(images), net(images))
    leave_out(plan(graph, {"b": torch.tensor([True, False, False, True])}), reasons)
    assert [type(m).__name__ for m in copy.deepcopy(net).modules()] == [type(m).__name__ for m in net.modules()]
    torch.testing.assert_close(copy.deepcopy(net)(images), net(images))
    assert not copy.deepcopy(net).b.weight[[0, 3]].any(), "of other layers they do"


def test_a_copy_that_will_not_get_its_filters_back_is_warned_of() -> None:
    net = Calls(sum_of_two, a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(3, 4, 1), added=nn.Sigmoid()).eval()
    graph, owner = channel_graph(net), Owner("RePr")
    dropped, reasons = {"a": torch.tensor([True, False, False, True])}, not_by_zeros(net, graph)
    leave_out(plan(graph, dropped), reasons, owner)
    with pytest.warns(UserWarning, match="lacks filters of layer .a. for ever: .*; copy in a full phase"):
        AveragedModel(net)
    restore(graph, owner)
    leave_out(plan(graph, {"b": dropped["a"]}), reasons, owner)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AveragedModel(net)


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
    graph = sliced(net)
    for module in (net.conv1, net.bn1, net.fc):
        module.register_forward_hook(lambda module, inputs, output: seen.append(type(module).__name__))
        module.register_full_backward_hook(lambda module, *gradients: seen.append(f"{type(module).__name__}, back"))
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
    restore(graph)  # as methods begin
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
    for number, dropped in enumerate(phases if name == "plain" else phases[:1]):
        plain.load_state_dict(net.state_dict())
        smaller = without(plain, dropped)
        leave_out(plan(graph, dropped))
        steps(smaller, entries(net, dropped))
        assert counter.frame_count == 2 + number, "compiled again from step to step"
    restore(graph)
    steps(copy.deepcopy(net), entries(net, {}))
    assert counter.frame_count <= 4
    torch._dynamo.reset()


def _forward_mode(net: Any, images: Tensor) -> Any:
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(net(forward_ad.make_dual(images, torch.ones_like(images)))).tangent


TRANSFORMED: dict[str, Any] = {
    "functional_call": lambda net, x: func.functional_call(net, dict(net.named_parameters()), (x,)),
    "gradients of each example": lambda net, x: func.vmap(func.grad(lambda one: loss_of(net(one[None]))))(x),
    "vmap": lambda net, x: func.vmap(lambda one: net(one[None])[0], in_dims=1, out_dims=1)(x.transpose(0, 1)),
    "jvp": lambda net, x: func.jvp(net, (x,), (torch.ones_like(x),)),
    "jacrev": lambda net, x: func.jacrev(lambda x: loss_of(net(x)))(x),
    "product with the Hessian": lambda net, x: func.jvp(
        func.grad(lambda x: loss_of(net(x))), (x,), (torch.ones_like(x),)
    ),
    "forward mode": _forward_mode,
    "export": lambda net, x: torch.export.export(net, (x,)).module()(x),
}


@pytest.mark.parametrize("how", TRANSFORMED)
def test_transformed_as_a_plain_network(how: str) -> None:
    """In evaluation mode: torch's own batch norm refuses to be transformed where it writes statistics."""
    torch.manual_seed(0)
    net = Calls(
        lambda s, x: s.fc(s.d(x + s.n(s.c(torch.relu(s.m(s.b(s.a(x))))))).flatten(1)),
        a=nn.Conv2d(3, 6, 1),
        b=nn.Conv2d(6, 6, 1, groups=6),
        m=nn.BatchNorm2d(6),
        c=nn.Conv2d(6, 3, 1),
        n=nn.BatchNorm2d(3),
        d=nn.Conv2d(3, 4, 3),
        fc=nn.Linear(16, 2),
    )
    net = net.double().eval()
    dropped = {"a": torch.arange(6) % 2 == 0, "c": torch.arange(3) == 1, "d": torch.arange(4) == 2}
    leave_out(plan(channel_graph(net), dropped))
    images = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(TRANSFORMED[how](net, images), TRANSFORMED[how](copy.deepcopy(net), images))


def test_scripting_takes_a_copy() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1))
    leave_out(plan(channel_graph(net), {"0": torch.arange(4) == 1}))
    with pytest.raises(ValueError, match=r"^torch.jit.script does not know .* give it a copy, as deepcopy$"):
        torch.jit.script(net)
