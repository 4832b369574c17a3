"""CIFAR-10 Quick of KFLO's tables."""

from __future__ import annotations

from reference import zoo_checks
from reference.networks import cifar_quick
from torch import nn

from filtersmith.zoo.cifar_quick import CifarQuick


def test_sizes_and_wiring() -> None:
    zoo_checks.sizes("cifar-quick", 117_034, 122_884)
    zoo_checks.wiring("cifar-quick", 33, cifar_quick)


def test_biases_are_those_of_the_published_kflo_size() -> None:
    count = 0
    for module in CifarQuick().modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            out = len(module.weight)
            count += 4 * module.weight.numel() + out * 4 * out + (4 * out if module.bias is not None else 0)
        elif isinstance(module, nn.BatchNorm2d):
            count += 2 * module.num_features
    assert count == 508_728


def test_images() -> None:
    zoo_checks.images("cifar-quick", (15, 16, 28, 33, 64), channels=(1, 3))
    zoo_checks.smallest_image("cifar-quick", 15, made_for=15)


def test_bad_name() -> None:
    zoo_checks.bad_name("cifar-quick-bn", "did you mean 'cifar-quick'?")
