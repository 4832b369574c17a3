"""ResNeXt-29: sizes, wiring, groups, start, images and names."""

from __future__ import annotations

import pytest
import torch
from reference import zoo_checks
from reference.networks import resnext
from torch import nn

from filtersmith import zoo
from filtersmith.zoo.resnext import ResNeXt29


def test_sizes_and_wiring() -> None:
    zoo_checks.sizes("resnext29-8x64d", 34_426_698, 34_518_948)
    zoo_checks.wiring("resnext29-2x2d", 13, resnext)


def test_size_by_hand() -> None:
    """Convolutions and batch norms counted one by one, in another shape than the published ones."""
    inner = 2 * 3
    stages = [(64, inner, 256), (256, 2 * inner, 512), (512, 4 * inner, 1024)]
    count = 27 * 64 + 128 + 1024 * 10 + 10
    for inputs, d, outputs in stages:
        for number in range(3):
            first = inputs if number == 0 else outputs
            count += first * d + 9 * d * (d // 2) + d * outputs + 4 * d + 2 * outputs
        count += inputs * outputs + 2 * outputs
    assert zoo.parameter_count("resnext29-2x3d") == count


def test_projections_stand_where_the_shape_changes() -> None:
    with torch.device("meta"):
        assert zoo_checks.projections(ResNeXt29(2, 2)) == [f"layer{n}.0.projection" for n in (1, 2, 3)]


def test_groups() -> None:
    convs = [module for module in ResNeXt29(4, 2).modules() if isinstance(module, nn.Conv2d) and module.groups > 1]
    assert [(c.in_channels, c.out_channels, c.groups) for c in convs] == [
        shape for width in (8, 16, 32) for shape in [(width, width, 4)] * 3
    ]
    assert [c.stride for c in convs] == [(1, 1)] * 3 + [(2, 2), (1, 1), (1, 1)] * 2


def test_start() -> None:
    # 2 groups: the fan out is that of all filters
    zoo_checks.starts_as_he_says(zoo.build("resnext29-2x32d").get_submodule("layer2.1.conv2"))
    assert not ResNeXt29(1, 1).fc.bias.any()


def test_images() -> None:
    zoo_checks.images("resnext29-2x2d", (1, 5, 33))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnext29-0x64d", "resnext groups must be a whole number of at least 1, got 0"),
        ("resnext29-8x0d", "resnext width must be a whole number of at least 1, got 0"),
        ("resnext29-8x64", "did you mean 'resnext29-8x64d'?"),
        ("resnext50-32x4d", "unknown network 'resnext50-32x4d'"),
    ],
)
def test_bad_name(name: str, message: str) -> None:
    zoo_checks.bad_name(name, message)
