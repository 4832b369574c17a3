"""VGG with batch norm, and KFLO's VGG-16: sizes, wiring, start, images and names."""

from __future__ import annotations

import pytest
from reference import zoo_checks
from reference.networks import vgg
from torch import nn

from filtersmith.zoo.vgg import VggBn


@pytest.mark.parametrize(
    ("name", "for_ten", "for_hundred"),
    [
        ("vgg16-bn", 14_728_266, 14_774_436),
        ("vgg19-bn", 20_040_522, 20_086_692),
        ("vgg16-kflo", 14_986_698, 15_032_868),
    ],
)
def test_sizes(name: str, for_ten: int, for_hundred: int) -> None:
    zoo_checks.sizes(name, for_ten, for_hundred)


@pytest.mark.parametrize(("name", "side"), [("vgg16-bn", 65), ("vgg19-bn", 33), ("vgg16-kflo", 70)])
def test_wiring(name: str, side: int) -> None:
    zoo_checks.wiring(name, side, vgg)


def test_start() -> None:
    model = VggBn(16, num_classes=100)
    zoo_checks.starts_as_he_says(model.features.get_submodule("conv4"))
    assert model.fc.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not any(p.any() for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear)) for p in [m.bias])


@pytest.mark.parametrize("name", ["vgg16-bn", "vgg19-bn", "vgg16-kflo"])
def test_smallest_image(name: str) -> None:
    zoo_checks.smallest_image(name, 32)


def test_images() -> None:
    zoo_checks.images("vgg16-bn", (32, 65))
    zoo_checks.images("vgg16-kflo", (32, 33, 65), channels=(1, 3))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vgg19", "did you mean 'vgg19-bn'?"),
        ("vgg13-bn", "did you mean 'vgg1"),
        ("vgg16", "did you mean 'vgg16-bn'?"),
    ],
)
def test_bad_name(name: str, message: str) -> None:
    zoo_checks.bad_name(name, message)


def test_bad_depth_of_a_class() -> None:
    with pytest.raises(ValueError, match="vgg-bn depth must be 16 or 19, got 13"):
        VggBn(13)
