"""Pre-activated ResNet: size, wiring, start, images and names."""

from __future__ import annotations

import pytest
import torch
from reference import zoo_checks
from reference.networks import preresnet

from filtersmith import zoo
from filtersmith.zoo.preresnet import PreResNet


def test_sizes_and_wiring() -> None:
    zoo_checks.sizes("preresnet110", 1_730_522, 1_736_372)
    zoo_checks.wiring("preresnet14", 13, preresnet)


def test_projections_stand_where_the_shape_changes() -> None:
    with torch.device("meta"):
        assert zoo_checks.projections(PreResNet(20)) == [f"layer{n}.0.projection" for n in (2, 3)]


def test_start() -> None:
    zoo_checks.starts_as_he_says(zoo.build("preresnet14").get_submodule("layer3.1.conv2"))
    assert PreResNet(8).fc.bias.any()  # as torch starts it


def test_images() -> None:
    zoo_checks.images("preresnet8", (1, 5, 33))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("preresnet111", "preresnet depth must be 6n+2 and at least 8 (8, 14, 20, ...), got 111"),
        ("preresnet2", "preresnet depth must be 6n+2"),
    ],
)
def test_bad_name(name: str, message: str) -> None:
    zoo_checks.bad_name(name, message)
