"""DenseNet and DenseNet-BC: sizes, wiring, growth, images and names."""

from __future__ import annotations

import pytest
from reference import zoo_checks
from reference.networks import densenet

from filtersmith import zoo
from filtersmith.zoo.densenet import DenseNet


@pytest.mark.parametrize(
    ("name", "for_ten", "for_hundred"),
    [
        ("densenet-bc-40-12", 176_122, 188_092),
        ("densenet-bc-100-12", 769_162, 800_032),
        # Without the linear layer of 448, 1,168 and 52 inputs the first two are those of RePr's table 4.
        ("densenet-40-12", 1_015_232 + 10 * 449, 1_015_232 + 100 * 449),
        ("densenet-100-12", 6_967_952 + 10 * 1_169, 6_967_952 + 100 * 1_169),
        ("densenet-5-12", 9_776 + 10 * 53, 9_776 + 100 * 53),
    ],
)
def test_sizes(name: str, for_ten: int, for_hundred: int) -> None:
    zoo_checks.sizes(name, for_ten, for_hundred)


def test_size_by_hand() -> None:
    """Convolutions and batch norms counted one by one, in another shape than the published ones."""
    channels, count = 16, 27 * 16
    for block in range(3):
        for _ in range(2):
            count += 2 * channels + 9 * channels * 4
            channels += 4
        if block < 2:
            count += 2 * channels + channels * channels
    assert zoo.parameter_count("densenet-10-4") == count + 2 * channels + 10 * channels + 10


@pytest.mark.parametrize(("name", "side"), [("densenet-5-3", 5), ("densenet-10-3", 14), ("densenet-bc-16-3", 14)])
def test_wiring(name: str, side: int) -> None:
    zoo_checks.wiring(name, side, densenet)


def test_growth() -> None:
    compressed = DenseNet(16, 5, bc=True)  # 10 + 2 * 5 = 20 -> 10, 20 -> 10, 20
    assert compressed.fc.in_features == 20
    assert DenseNet(10, 5).fc.in_features == 16 + 6 * 5


@pytest.mark.parametrize(
    ("name", "layer"),
    [("densenet-10-32", "features.block2.1.conv"), ("densenet-bc-10-32", "features.block2.0.reduce.0")],
)
def test_convolutions_start_as_he_says(name: str, layer: str) -> None:
    zoo_checks.starts_as_he_says(zoo.build(name).get_submodule(layer))


def test_images() -> None:
    for name, sides in (("densenet-7-2", (4, 7, 33)), ("densenet-bc-10-2", (4, 7, 33)), ("densenet-5-2", (1, 3))):
        zoo_checks.images(name, sides)
    for name in ("densenet-7-2", "densenet-bc-10-2"):
        zoo_checks.smallest_image(name, 4)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("densenet-41-12", "densenet depth must be 3n+4 and at least 7 (7, 10, 13, ...), or 5, got 41"),
        ("densenet-4-12", "densenet depth must be 3n+4"),
        ("densenet-bc-43-12", "densenet-bc depth must be 6n+4 and at least 10 (10, 16, 22, 28, ...), got 43"),
        ("densenet-bc-5-12", "densenet-bc depth must be 6n+4"),
        ("densenet-40-0", "densenet growth rate must be a whole number of at least 1, got 0"),
        ("densenet-40", "unknown network 'densenet-40' (did you mean 'densenet-40-12'?)"),
    ],
)
def test_bad_name(name: str, message: str) -> None:
    zoo_checks.bad_name(name, message)
