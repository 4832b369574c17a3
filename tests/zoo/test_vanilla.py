"""The plain chains of RePr: sizes, wiring and names."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from reference import zoo_checks
from torch import nn

from filtersmith import zoo
from filtersmith.zoo.vanilla import Vanilla


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("vanilla-2-32", 896 + 9_248 + 2 * 64),
        ("vanilla", 19_584),
        ("vanilla-8-32", 66_144),
        ("vanilla-13-32", 112_704),
        ("vanilla-18-32", 159_264),
    ],
)
def test_size_without_the_linear_layer_is_that_of_table_4(name: str, count: int) -> None:
    with torch.device("meta"):
        model = zoo.build(name)
    assert zoo.parameter_count(name) - sum(p.numel() for p in model.fc.parameters()) == count  # type: ignore[union-attr]


def test_whole_sizes() -> None:
    assert zoo.parameter_count("vanilla") == 19_584 + 327_690
    assert zoo.parameter_count("vanilla-3-32") == zoo.parameter_count("vanilla")


def test_it_is_conv_norm_relu_then_one_linear_layer() -> None:
    torch.manual_seed(0)
    model, plain = Vanilla(2, 5, image_size=6), Vanilla(2, 5, image_size=6, bn=False)
    assert [type(m).__name__ for m in model.features] == ["Conv2d", "BatchNorm2d", "ReLU"] * 2
    assert [type(m).__name__ for m in plain.features] == ["Conv2d", "ReLU"] * 2
    x = torch.randn(3, 3, 6, 6)
    first, second = plain.features[0], plain.features[2]
    maps = F.conv2d(x, first.weight, first.bias, padding=1).clamp(min=0)
    maps = F.conv2d(maps, second.weight, second.bias, padding=1).clamp(min=0)
    torch.testing.assert_close(plain(x), maps.reshape(3, 180) @ plain.fc.weight.T + plain.fc.bias)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vanilla-8", "unknown network 'vanilla-8'"),
        ("vanilla-0-32", "vanilla layers must be a whole number of at least 1, got 0"),
        ("vanilla-3-0", "vanilla width must be a whole number of at least 1, got 0"),
    ],
)
def test_bad_name(name: str, message: str) -> None:
    zoo_checks.bad_name(name, message)


def test_dropout_behind_each_relu_and_no_batch_norm() -> None:
    kinds = [type(module) for module in zoo.build("vanilla-2-4-nobn-dropout", image_size=8).features]
    assert kinds == [nn.Conv2d, nn.ReLU, nn.Dropout] * 2
    assert zoo.parameter_count("vanilla-nobn") == 347_082, "as the public re-implementation of RePr has it"
    assert zoo.parameter_count("vanilla-dropout") == zoo.parameter_count("vanilla")
