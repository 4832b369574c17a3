"""ResNet-18 and -34 for small images: sizes, wiring and images."""

from __future__ import annotations

import torch
from reference import zoo_checks
from reference.networks import resnet18
from torch import nn

from filtersmith.zoo.resnet18 import SmallImageResNet


def test_sizes_and_wiring() -> None:
    zoo_checks.sizes("resnet18-cifar", 11_173_962, 11_220_132)
    zoo_checks.sizes("resnet34-cifar", 21_282_122, 21_328_292)
    zoo_checks.wiring("resnet18-cifar", 13, resnet18)


def test_projections_stand_where_the_shape_changes() -> None:
    with torch.device("meta"):
        model = SmallImageResNet(34)
    assert zoo_checks.projections(model) == [f"layer{n}.0.projection" for n in (2, 3, 4)]
    assert [len(stage) for stage in model.children() if isinstance(stage, nn.Sequential)] == [3, 4, 6, 3]


def test_images() -> None:
    zoo_checks.images("resnet18-cifar", (1, 4, 33))


def test_bad_name() -> None:
    zoo_checks.bad_name(
        "resnet50-cifar", "resnet-cifar depth must be 18 or 34 (resnetD without -cifar: 6n+2), got 50"
    )
