"""What a layer's filters are, in every kind of layer; where they stand is tested with `locate`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from reference.nets import net
from torch import nn

import filtersmith as fs
from filtersmith.filters import (
    FilterLayer,
    filter_layers,
    filter_major,
    has_filters,
    is_expansion,
    sums_branches,
    transposed_groups,
    underlying_filters,
    weight_layout,
    weight_of,
)


def test_the_weight_is_looked_up_anew() -> None:
    model = nn.Sequential(nn.Conv2d(2, 2, 3))
    (layer,) = filter_layers(model)
    model[0].weight = nn.Parameter(torch.zeros(5, 2, 3, 3))
    assert layer.weight is model[0].weight
    assert layer.filters == 5


@pytest.mark.parametrize("name", ["dense", "grouped", "depthwise", "up", "grouped_up", "fc"])
def test_filter_major_has_a_filter_in_each_row_and_back(name: str) -> None:
    layer = FilterLayer(name, net().get_submodule(name))
    groups = transposed_groups(layer.module)
    rows = filter_major(layer.weight, groups)
    assert len(rows) == layer.filters
    assert torch.equal(weight_layout(rows, groups), layer.weight)
    # Where one row alone is not zero, one output alone is not.
    module: Any = layer.module
    alone = torch.zeros_like(rows)
    alone[-1] = 1
    with torch.no_grad():
        module.weight.copy_(weight_layout(alone, groups))
        module.bias = None
        images = torch.ones(1, module.in_features) if name == "fc" else torch.ones(1, module.in_channels, 5, 5)
        outputs = module(images)[0].reshape(layer.filters, -1)
    assert outputs.any(dim=1).tolist() == [False] * (layer.filters - 1) + [True]


def test_what_expansion_makes_of_a_layer_shows_by_its_marks() -> None:
    kflo, mixed, summed = (
        fs.expand(net(), method, layers=["dense"]).dense for method in (fs.KFLO(width=2), fs.DOConv(), fs.ACNet())
    )
    assert [is_expansion(m) for m in (kflo, mixed, summed, net().dense)] == [True, True, False, False]
    assert [sums_branches(m) for m in (kflo, mixed, summed, summed.conv)] == [False, False, True, False]
    assert [has_filters(m) for m in (kflo, mixed, summed, nn.BatchNorm2d(2))] == [True, True, False, False]
    underlying = underlying_filters(kflo)
    assert underlying is not None
    assert FilterLayer("dense", kflo).weight is weight_of(kflo) is underlying
    assert underlying.shape == (16, 3, 3, 3)
    assert weight_of(mixed) is underlying_filters(mixed) is weight_of(summed) is None
    norm = nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 2, 1))
    assert not is_expansion(norm)
    assert weight_of(norm) is None
