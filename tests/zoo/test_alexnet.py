"""AlexNet for small images: its size and the images that it takes."""

from __future__ import annotations

import pytest
import torch
from reference import zoo_checks

from filtersmith.zoo.alexnet import CifarAlexNet


def test_sizes() -> None:
    zoo_checks.sizes("alexnet", 2_472_266, 2_495_396)


@pytest.mark.parametrize("side", [29, 32, 63, 64])
def test_the_linear_layer_fits_the_image(side: int) -> None:
    assert CifarAlexNet(image_size=side)(torch.randn(1, 3, side, side)).shape == (1, 10)


def test_smallest_image() -> None:
    zoo_checks.smallest_image("alexnet", 29, made_for=29)
