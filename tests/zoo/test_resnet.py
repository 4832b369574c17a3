"""ResNet for CIFAR: sizes, shortcuts against loops, start, images and names."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from reference import zoo_checks
from torch import nn

from filtersmith import zoo
from filtersmith.zoo.resnet import CifarResNet, option_a


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("resnet20", 269_072),
        ("resnet32", 463_504),
        ("resnet50", 755_152),
        ("resnet110", 1_727_312),
        ("resnet182", 2_893_904),
    ],
)
def test_size_without_the_linear_layer_is_that_of_table_4(name: str, count: int) -> None:
    assert zoo.parameter_count(name) - 650 == count


def test_shortcut_against_loops() -> None:
    x = torch.randn(2, 4, 5, 7)
    slow = torch.zeros(2, 8, 3, 4)
    for channel in range(4):
        for row in range(3):
            for column in range(4):
                slow[:, 2 + channel, row, column] = x[:, channel, 2 * row, 2 * column]
    assert torch.equal(option_a(x, 8, 2), slow)


def test_blocks_add_their_shortcut_before_the_last_relu() -> None:
    model = CifarResNet(14)
    x = torch.randn(2, 16, 8, 8)
    for stage, expected in ((model.layer1, x), (model.layer2, option_a(x, 32, 2))):
        for block in stage:
            nn.init.zeros_(block.bn2.weight)  # the residual branch is silent
        torch.testing.assert_close(stage(x), F.relu(expected))
    block = CifarResNet(8).layer1[0]
    slow = block.bn2(block.conv2(F.relu(block.bn1(block.conv1(x))))) + x
    torch.testing.assert_close(block(x), F.relu(slow))


def test_takes_any_image_and_starts_as_he_says() -> None:
    torch.manual_seed(0)
    model = CifarResNet(20, in_channels=1)
    for side in (4, 8, 33):
        assert model(torch.randn(2, 1, side, side)).shape == (2, 10)
    assert [stage[0].conv1.stride for stage in (model.layer1, model.layer2, model.layer3)] == [
        (1, 1),
        (2, 2),
        (2, 2),
    ]
    assert model.layer3(model.layer2(torch.randn(2, 16, 8, 8))).shape == (2, 64, 2, 2)
    for conv in (model.conv1, model.layer2[0].conv1, model.layer3[2].conv2):
        fan_out = conv.out_channels * 9
        assert conv.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.2)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet21", "depth must be 6n+2 and at least 8 (8, 14, 20, ...), got 21"),
        ("resnet18", "ImageNet's is torchvision:resnet18, made for small images it is resnet18-cifar), got 18"),
        ("resnet101", "ImageNet's is torchvision:resnet101), got 101"),
        ("resnet2", "depth must be 6n+2"),
    ],
)
def test_bad_name(name: str, message: str) -> None:
    zoo_checks.bad_name(name, message)
