"""What weights alone tell, against the functions of `fs.measure` one by one."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from filtersmith import measure, zoo
from filtersmith.lab.audit.weights import BINS, by_weights
from filtersmith.measure.overlap import cosines


def test_every_layer_is_what_the_single_measures_say() -> None:
    network, random = zoo.build("resnet8"), zoo.build("resnet8")
    weight: torch.Tensor = network.layer1[0].conv1.weight.data  # type: ignore[union-attr, index, assignment]
    weight[3], weight[5] = -2 * weight[1], 0
    told: list[int] = []
    layers = by_weights(network, random, lambda: told.append(1))
    assert len(told) == len(layers) == 7
    for layer in layers:
        kernel = network.get_submodule(layer.name).weight.detach()  # type: ignore[union-attr]
        other = random.get_submodule(layer.name).weight.detach()  # type: ignore[union-attr]
        for shape, one in ((layer.own, kernel), (layer.random, other)):
            assert shape.overlap == pytest.approx(float(measure.orthogonality(one).mean()), rel=1e-5)
            assert shape.rank == pytest.approx(measure.effective_rank(one))
            assert shape.condition == pytest.approx(measure.condition(one))
            expected = torch.histc(
                cosines(one)[0][torch.triu(torch.ones(len(one), len(one)), 1) > 0].abs().clamp(max=1), BINS, 0, 1
            )
            assert shape.cosines == tuple(expected.int().tolist())
        assert layer.size == tuple(kernel.shape)
    changed = next(layer for layer in layers if layer.name == "layer1.0.conv1")
    assert (changed.own.duplicates, changed.dead, changed.own.condition) == (2, (5,), math.inf)
    assert sum(layer.own.duplicates for layer in layers) == 2


def test_filters_that_are_not_finite_are_named_and_count_nowhere_else() -> None:
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Conv2d(5, 2, 1))
    network[0].weight.data[4, 0] = torch.inf
    network[1].weight.data[:] = torch.nan
    first, second = by_weights(network, nn.Sequential(nn.Conv2d(3, 5, 3), nn.Conv2d(5, 2, 1)))
    assert (first.not_finite, second.not_finite) == ((4,), (0, 1))
    assert first.own.rank == pytest.approx(measure.effective_rank(network[0].weight[:4]))
    assert first.own.full_rank == 4
    assert math.isnan(second.own.overlap)
    assert sum(second.own.cosines) == 0


def test_groups_lie_in_dimensions_of_their_own() -> None:
    grouped = nn.Conv2d(4, 8, 3, groups=2)
    grouped.weight.data[4:] = grouped.weight.data[:4]
    (layer,) = by_weights(grouped, nn.Conv2d(4, 8, 3, groups=2))
    assert layer.own.rank == pytest.approx(2 * measure.effective_rank(grouped.weight[:4]))
    assert layer.own.full_rank == layer.random.full_rank == 8


def test_depthwise_layers_are_marked() -> None:
    (layer,) = by_weights(nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 4, 3, groups=4))
    assert layer.depthwise
    assert layer.own.overlap == 0


def test_a_network_that_is_another_one_each_time_is_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match="Sequential must be the same each time that it is made: layer 0 is not"):
        by_weights(nn.Sequential(nn.Conv2d(3, 4, 1)), nn.Sequential(nn.Conv2d(3, 5, 1)))
