"""The filters of layers, whatever makes their weights."""

from __future__ import annotations

import doctest
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from reference import pointwise
from reference.nets import assert_same
from reference.unchanged import state
from torch import nn
from torch.nn.utils import prune

import filtersmith as fs
from filtersmith import zoo
from filtersmith.filters import filter_major
from filtersmith.measure import kernels
from filtersmith.measure.kernels import convolutions, kernels_of, weight_as_used


def test_every_kind_of_layer_by_filters() -> None:
    model = nn.Sequential(
        nn.Conv2d(4, 6, 3, groups=2),
        nn.Conv2d(6, 6, 3, groups=6),
        nn.ConvTranspose2d(6, 4, 2, groups=2),
        nn.Conv1d(4, 2, 3),
        nn.Flatten(),
        nn.Linear(8, 5),
    )
    found = kernels_of(model)
    assert [(one.name, tuple(one.filters.shape), one.groups, one.depthwise) for one in found] == [
        ("0", (6, 2, 3, 3), 2, False),
        ("1", (6, 1, 3, 3), 6, True),
        ("2", (4, 3, 2, 2), 2, False),
        ("3", (2, 4, 3), 1, False),
    ]
    assert torch.equal(found[2].filters, filter_major(model[2].weight, 2))
    (named,) = kernels_of(model, ["5"])
    assert torch.equal(named.filters, model[5].weight)
    assert not named.filters.requires_grad


def test_linear_layers_that_are_convolutions_are_among_them() -> None:
    linear, convolutional = pointwise.pair()
    found, expected = kernels_of(linear), kernels_of(convolutional)
    assert [one.name for one in found] == [one.name for one in expected] == convolutions(linear)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.filters.flatten(1), other.filters.flatten(1))


@pytest.mark.parametrize("method", [fs.KFLO(width=4), fs.DBB(), fs.ACNet(), fs.DOConv()])
def test_of_an_expanded_network_the_kernels_that_are_deployed(method: Any) -> None:
    model = zoo.build("resnet8")
    fs.expand(model, method)
    plain = fs.collapse(model)
    found = kernels_of(model)
    assert [one.name for one in found] == [one.name for one in kernels_of(plain)]
    for one, other in zip(found, kernels_of(plain), strict=True):
        torch.testing.assert_close(one.filters, other.filters)


def test_weights_that_are_computed_are_read_as_they_are_used() -> None:
    layer = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))
    (found,) = kernels_of(torch.compile(nn.Sequential(layer)))  # type: ignore[arg-type]
    assert found.name == "0"
    assert torch.equal(found.filters, layer.weight)


def test_what_cannot_be_read_is_refused_in_one_line() -> None:
    with torch.device("meta"):
        nowhere = nn.Sequential(nn.Conv2d(3, 4, 3))
    for model, layers, said in (
        (nn.Sequential(nn.Linear(3, 2)), None, "Sequential has no convolution"),
        (nn.Sequential(nn.Conv2d(3, 2, 1)), ["1"], "unknown layer '1'; known: 0"),
        (nn.Sequential(nn.LazyConv2d(2, 1)), None, "layer '0' cannot be measured"),
        (nowhere, None, "layer '0' cannot be measured: its weight is on the meta device"),
        (3, None, "model must be a torch.nn.Module, got 'int'"),
    ):
        with pytest.raises(ValueError, match=said) as error:
            kernels_of(model, layers)  # type: ignore[arg-type]
        assert "\n" not in str(error.value)


def test_reading_takes_no_step_of_a_spectral_norm() -> None:
    model = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 8, 3)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for call in (fs.measure.orthogonality, fs.measure.near_duplicates, fs.measure.dead_filters):
        call(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())


def older(make: Callable[..., nn.Module], layer: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch prefers its parametrizations
        return make(layer)


def pruned_twice(layer: nn.Module) -> nn.Module:
    prune.ln_structured(layer, "weight", amount=2, n=2, dim=0)
    return prune.random_unstructured(layer, "weight", amount=0.5)


@pytest.mark.parametrize(
    "make",
    [
        lambda layer: prune.ln_structured(layer, "weight", amount=1, n=2, dim=0),
        pruned_twice,
        lambda layer: prune.l1_unstructured(layer, "bias", amount=1),
        lambda layer: older(nn.utils.weight_norm, layer),
        lambda layer: older(nn.utils.spectral_norm, layer),
    ],
)
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_weights_that_a_hook_makes_are_those_of_the_next_call(make: Any, kind: Any) -> None:
    layer = make(kind(4, 6, 3))
    model = nn.Sequential(layer)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(3).add_(0.1)
    stale, before = layer.weight.detach().clone(), state(model)
    (found,) = kernels_of(model)
    fs.measure.dead_filters(model)
    assert_same(state(model), before)
    model.eval()(torch.randn(1, 4, 5, 5))
    groups = 1 if kind is nn.ConvTranspose2d else None
    torch.testing.assert_close(found.filters, filter_major(layer.weight.detach(), groups))
    assert torch.equal(stale, layer.weight) == ("bias_mask" in layer._buffers)
    assert not found.filters.requires_grad


def test_a_batch_norm_whose_scale_a_hook_makes() -> None:
    norm = prune.l1_unstructured(nn.BatchNorm2d(3), "weight", amount=0)
    norm.weight_orig.data[1] = 0
    assert weight_as_used(norm).tolist() == [1, 0, 1]
    assert fs.measure.dead_filters(nn.Sequential(nn.Conv2d(3, 3, 1), norm)) == {"0": [1]}


def test_of_a_scripted_network_nothing_is_told() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.jit.script(nn.Sequential(nn.Conv2d(3, 3, 1)))
    for call in (kernels_of, convolutions):
        with pytest.raises(
            ValueError, match=r"^RecursiveScriptModule has no convolution that can be told: give the net"
        ):
            call(model)


def test_the_examples() -> None:
    results = doctest.testmod(kernels)
    assert (results.attempted, results.failed) == (1, 0)
