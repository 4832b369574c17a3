"""LeNet-5 of KFLO's figure 1."""

from __future__ import annotations

from reference import zoo_checks
from reference.networks import lenet

from filtersmith import zoo
from filtersmith.zoo.lenet import LeNet5


def test_size_for_mnist_and_wiring() -> None:
    assert zoo.parameter_count("lenet5", 10, 1, image_size=28) == 61_706
    assert sum(parameter.numel() for parameter in LeNet5().parameters()) == 61_706
    zoo_checks.wiring("lenet5", 29, lenet)


def test_images() -> None:
    zoo_checks.images("lenet5", (12, 13, 28, 31, 32), channels=(1, 3))
    zoo_checks.smallest_image("lenet5", 12, made_for=12)


def test_bad_name() -> None:
    zoo_checks.bad_name("lenet", "did you mean 'lenet5'?")
