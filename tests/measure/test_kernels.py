"""The filters of layers, whatever makes their weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from reference import pointwise
from torch import nn

import filtersmith as fs
from filtersmith import zoo
from filtersmith.filters import filter_major
from filtersmith.measure.kernels import convolutions, kernels_of


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
