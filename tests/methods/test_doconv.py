"""DO-Conv against its formula (`reference.doconv`), on every kind of convolution."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.doconv import compose
from reference.layers import CHANNELS_LAST, layers
from reference.nets import assert_same, batch_number, net, train
from torch import Tensor, nn
from torch.optim import SGD, Adam

import filtersmith as fs
from filtersmith.filters import filter_major, transposed_groups
from filtersmith.reparam.parametrization import originals


def factors(layer: nn.Module) -> list[Tensor]:
    """W and D."""
    return originals(layer.parametrizations["weight"])  # type: ignore[index, arg-type]


def assert_close(actual: Tensor, expected: Tensor) -> None:
    """To 1e-5 of the largest value: single ones may cancel."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5 * max(1.0, float(expected.detach().abs().max())))


@settings(max_examples=60)
@given(layers(), st.sampled_from((None, 0, 1, 5)))
def test_the_kernel_is_the_papers_product(drawn: Any, more: int | None) -> None:
    plain, x = drawn
    network = nn.Sequential(copy.deepcopy(plain))
    window = 1 if isinstance(plain, nn.Linear) else math.prod(plain.kernel_size)
    if window == 1:
        with pytest.raises(ValueError, match=r"^Sequential has no layer that DOConv"):
            fs.expand(network, fs.DOConv())
        return
    before = network(x)
    fs.expand(network, fs.DOConv(None if more is None else window + more))
    (layer,) = network
    assert isinstance(layer, type(plain))
    assert torch.equal(network(x), before), "it starts as what it was"
    kernel, mixing = factors(layer)
    d_mul = window + (more or 0)
    rows = filter_major(plain.weight, transposed_groups(plain))
    assert kernel.shape == (*rows.shape[:2], d_mul)
    assert mixing.shape == (plain.in_channels, window, d_mul)
    assert not mixing.any()
    bias = 0 if plain.bias is None else plain.out_channels
    assert sum(p.numel() for p in network.parameters()) == kernel.numel() + mixing.numel() + bias

    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter))
    expected = compose(kernel, mixing)
    generated = filter_major(layer.weight, transposed_groups(plain)).flatten(2)
    assert_close(generated, expected)
    weights = torch.randn_like(expected)
    ours, theirs = (torch.autograd.grad((k * weights).sum(), [kernel, mixing]) for k in (generated, expected))
    for one, other in zip(ours, theirs, strict=True):
        assert_close(one, other)

    deployed = fs.collapse(network)
    assert type(deployed[0]) is type(plain)
    torch.testing.assert_close(deployed(x), network(x), rtol=0, atol=0)
    fresh = nn.Sequential(copy.deepcopy(plain))
    fresh.load_state_dict(deployed.state_dict(), strict=True)
    assert_close(fresh(x), network(x))


@pytest.mark.parametrize("make", [nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d])
@pytest.mark.parametrize("groups", [1, 2])
def test_the_memory_format_survives(make: type[nn.Module], groups: int) -> None:
    dims = 3 if "3d" in make.__name__ else 2
    layer = make(4, 6, 3, groups=groups).to(memory_format=CHANNELS_LAST[dims])
    strides = layer.weight.stride()
    network = fs.expand(nn.Sequential(layer), fs.DOConv())
    assert layer.weight.stride() == strides, "while it trains"
    assert fs.collapse(network)[0].weight.stride() == strides, "and where it is deployed"


@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("d_mul", [9, 12])
def test_what_is_collapsed_is_what_was_trained(groups: int, d_mul: int) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1, groups=groups), nn.ReLU(), nn.Conv2d(16, 4, 3))
    x = torch.randn(4, 8, 6, 6)
    fs.expand(model, fs.DOConv(d_mul))
    optimizer = Adam(fs.param_groups(model, weight_decay=1e-4), lr=0.01)
    start = [tensor.detach().clone() for layer in (model[0], model[2]) for tensor in factors(layer)]
    for _ in range(5):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    trained = [tensor for layer in (model[0], model[2]) for tensor in factors(layer)]
    assert all(not torch.equal(one, other) for one, other in zip(start, trained, strict=True))
    torch.testing.assert_close(fs.collapse(model)(x), model(x), rtol=0, atol=1e-5)


def test_weight_decay_draws_the_mixing_matrices_to_the_identity() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, groups=1))
    fs.expand(model, fs.DOConv())
    kernel, mixing = factors(model[0])
    with torch.no_grad():
        mixing.normal_()
    before = mixing.detach().clone()
    groups = fs.param_groups(model, weight_decay=0.1, inner_weight_decay=5.0)
    assert [group["weight_decay"] for group in groups] == [0.1], "D is no inner matrix of KFLO"
    optimizer = SGD(groups, lr=0.5)
    for _ in range(20):
        optimizer.zero_grad()
        (0 * model(torch.randn(1, 3, 4, 4)).sum()).backward()
        optimizer.step()
    torch.testing.assert_close(mixing, 0.95**20 * before)
    for group in optimizer.param_groups:
        group["weight_decay"] = 0.0
    with torch.no_grad():
        mixing.mul_(0)
    assert torch.equal(model[0].weight.flatten(2), kernel), "with D = 0 the kernel is W"


def test_assigning_a_kernel_starts_anew() -> None:
    layer = nn.Conv2d(2, 3, 3)
    fs.expand(nn.Sequential(layer), fs.DOConv(11))
    given_kernel = torch.randn(3, 2, 3, 3)
    with torch.no_grad():
        factors(layer)[1].normal_()
    layer.weight = given_kernel
    assert torch.equal(layer.weight, given_kernel)
    assert not factors(layer)[1].any()


def test_what_stays_plain() -> None:
    model, plain = net(), net()
    fs.expand(model, fs.DOConv())
    windows = {"dense", "depthwise", "up", "grouped_up"}
    for name, layer in plain.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            assert (type(model.get_submodule(name)) is type(layer)) == (name not in windows), name
    train(model, SGD(fs.param_groups(model, 1e-4), lr=0.1), 2)
    model.eval()
    images = batch_number(3)[0]
    torch.testing.assert_close(fs.collapse(model)(images), model(images), rtol=0, atol=1e-6)


@pytest.mark.parametrize("value", [0, -1, 2.5, True, "9", float("nan")])
def test_an_option_out_of_range(value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^d_mul must be a whole number of at least 1, got {value!r}$"):
        fs.DOConv(value)


def test_a_layer_whose_window_is_larger_is_refused_before_any_change() -> None:
    model = net()
    before = copy.deepcopy(model.state_dict())
    message = (
        r"^layer 'dense' cannot be expanded with DOConv\(d_mul=8\): d_mul must be at least its window of 9 .*, "
        "got 8; leave it out with layers=$"
    )
    with pytest.raises(ValueError, match=message):
        fs.expand(model, fs.DOConv(8), layers=["grouped_up", "dense"])
    assert_same(model.state_dict(), before)
    fs.expand(model, fs.DOConv(8), layers=["grouped_up"])
    assert factors(model.grouped_up)[0].shape == (4, 2, 8)
