"""Dead filters and near duplicates that were planted, and none where there are none."""

from __future__ import annotations

import doctest
import warnings
from typing import Any

import pytest
import torch
from reference.overlap import cosine_lists
from torch import Tensor, nn
from torch.nn import functional as F

import filtersmith as fs
from filtersmith import zoo
from filtersmith.measure import waste
from filtersmith.measure.waste import Spread, dead_filters, look_for_dead, near_duplicates


def images() -> Tensor:
    return torch.randn(64, 3, 16, 16)


def test_a_network_as_it_is_made_has_no_dead_filter() -> None:
    model = zoo.build("resnet8", image_size=16)
    found = dead_filters(model, [(images(), 0)])
    assert set(map(tuple, found.values())) == {()}
    assert list(found) == [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    assert near_duplicates(model) == []


@torch.no_grad()
def test_what_is_dead_by_weights_scale_or_on_the_data() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1)
    )
    model[0].weight[1] = 0
    model[0].weight[2] *= 1e-9
    model[1].weight[4] = 0
    model[3].weight.abs_()
    model[3].weight[3], model[3].bias[3] = -1, -1  # reads what is never below 0
    assert dead_filters(model) == {"0": [1, 2, 4], "3": [], "5": []}
    assert dead_filters(model, images()) == {"0": [1, 2, 4], "3": [3], "5": []}
    assert dead_filters(model, [images()], ["3"]) == {"3": [3]}
    assert model.training


def test_a_layer_of_zeros_is_dead_as_a_whole_and_nan_is_not() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1))
    nn.init.zeros_(model[0].weight)  # type: ignore[arg-type]
    model[1].weight.data[1] = torch.nan
    assert dead_filters(model) == {"0": [0, 1, 2], "1": []}
    assert near_duplicates(model) == []


def test_pairs_by_cosine_of_either_sign_the_most_alike_first() -> None:
    model = nn.Sequential(nn.Conv2d(4, 6, 3), nn.Conv2d(6, 8, 3, groups=2))
    first, second = model[0].weight.data, model[1].weight.data
    first[5] = -3 * first[2] + 0.05 * torch.randn_like(first[2])
    second[7], second[0] = 2 * second[4], second[5]  # the second pair is of two groups: it reads other channels
    found = near_duplicates(model)
    assert [(pair.layer, pair.filter, pair.other) for pair in found] == [("1", 4, 7), ("0", 2, 5)]
    assert found[0].cosine == pytest.approx(1, abs=1e-6)
    assert found[1].cosine == pytest.approx(cosine_lists(first, 1)[0][2][5], abs=1e-6)
    assert found[1].cosine < -0.95
    assert [pair.layer for pair in near_duplicates(model, threshold=1)] == ["1"]
    assert len(near_duplicates(model, threshold=1e-9)) == 15 + 6 + 6
    with pytest.raises(ValueError, match=r"threshold must be a number in \(0, 1\], got 0"):
        near_duplicates(model, threshold=0)


def test_the_examples() -> None:
    assert doctest.testmod(waste).failed == 0


@torch.no_grad()
def test_what_one_value_or_another_reader_shows_is_no_dead_filter() -> None:
    class Beside(nn.Module):
        """Its channels are read in front of the batch norm as well."""

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return y + torch.relu(self.bn(y))

    model = Beside()
    model.bn.weight[1] = 0
    assert dead_filters(model) == {"conv": []}
    single = nn.Sequential(nn.Conv2d(3, 4, 3))
    assert dead_filters(single, [torch.randn(1, 3, 3, 3)]) == {"0": []}, "one value is always the same"


def test_in_a_sub_phase_what_is_left_out_is_dead() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 3))
    cycle = fs.RePr(model, torch.optim.SGD(model.parameters(), lr=0.1), s1=1, s2=1, cycles=1, prune=0.3, keep_min=1)
    while cycle.step() != "pruned":
        pass
    out = {name: mask.nonzero().flatten().tolist() for name, mask in cycle.pruned.items()}
    found = dead_filters(model, [torch.randn(16, 3, 12, 12)])
    assert any(out.values())
    assert all(set(filters) <= set(found[name]) for name, filters in out.items())


@pytest.mark.parametrize("bad", [torch.inf, -torch.inf, torch.nan])
@torch.no_grad()
def test_what_is_not_finite_is_no_size_to_compare_with(bad: float) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    model[0].weight[2, 0, 0, 0] = bad
    model[0].weight[5] = 0
    assert dead_filters(model) == {"0": [5]}
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    model[1].weight[2], model[1].weight[5] = bad, 0
    assert dead_filters(model) == {"0": [5]}
    spread = Spread()
    for _ in range(2):
        values = torch.randn(4, 8, 3, 3)
        values[:, 5] = 1
        values[0, 2, 0, 0] = values[:, 3] = bad
        spread.add(values)
    assert spread.constant().nonzero().flatten().tolist() == [5]


@torch.no_grad()
def test_a_channel_that_overflows_in_half_precision_kills_no_other() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)).half()
    model[0].weight[1] = 6e4
    model[0].weight[2] = 0
    found = dead_filters(model, [10 + torch.rand(4, 3, 4, 4)], ["0"])
    assert found == {"0": [2]}


@torch.no_grad()
def test_scales_behind_depthwise_convolutions_are_theirs() -> None:
    first, depthwise = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=8)
    model = nn.Sequential(
        first, nn.BatchNorm2d(8), nn.ReLU(), depthwise, nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1)
    )
    model[1].weight[1], model[4].weight[2] = 0, 0
    assert dead_filters(model) == {"0": [1], "3": [2], "6": []}
    without = nn.Sequential(first, depthwise, model[4], nn.Conv2d(8, 4, 1))
    assert dead_filters(without) == {"0": [], "1": [2], "3": []}
    several = nn.Sequential(first, model[1], nn.BatchNorm2d(8), nn.ReLU(), model[4], nn.Conv2d(8, 4, 1))
    assert dead_filters(several) == {"0": [1, 2], "5": []}


class Untraceable(nn.Module):
    """A block that torch.fx can trace, and layers around it whose forward it cannot."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1))
        self.bn, self.c = norm(4), nn.Conv2d(4, 4, 1)
        self.used = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.c(torch.relu(self.bn(self.block(x))))
        return y if y.sum() > 1e9 else F.conv2d(y, self.used.weight)


@torch.no_grad()
def test_layers_at_which_nobody_could_look_are_named() -> None:
    model, data = Untraceable(nn.BatchNorm2d), torch.randn(8, 3, 4, 4)
    model.bn.weight[1], model.block[1].weight[2] = 0, 0
    model.bn.bias.fill_(5)  # so that the ReLU is open
    every = {"block.0": [2], "block.3": [], "c": [], "used": []}
    said = (
        r"^dead filters of layers 'block.3', 'c', 'used' may be missed: its outputs leave .* \(and 1 other reason\)$"
    )
    with pytest.warns(UserWarning, match=said) as caught:
        assert dead_filters(model) == every
    assert [one.filename for one in caught] == [__file__], "once, at the line that asked"
    with pytest.warns(
        UserWarning, match="^dead filters of layer 'c' may be missed: it is called by code that torch.fx"
    ):
        assert dead_filters(model, layers=["block.0", "c"]) == {"block.0": [2], "c": []}
    with pytest.warns(UserWarning, match="layer 'used' may be missed: not called as a module on these images$"):
        assert dead_filters(model, [data]) == {**every, "block.3": [1]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dead_filters(model, [data], ["block.3", "c"]) == {"block.3": [1], "c": []}
        assert dead_filters(Untraceable(nn.Identity)) == {**every, "block.0": []}, "it has no batch norm there"
        found = look_for_dead(model)
    assert found.filters == every
    assert list(found.unseen) == ["block.3", "c", "used"]
    with pytest.raises(ValueError, match="layer 'used' is not called"):
        dead_filters(model, [data], ["used"])
