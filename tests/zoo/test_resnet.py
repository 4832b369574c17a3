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


@pytest.mark.parametrize(
    ("name", "dropped", "affine"),
    [
        ("resnet8-b1", nn.Dropout, True),
        ("resnet8-b1-channels", nn.Dropout2d, True),
        ("resnet8-b2", nn.Dropout, False),
        ("resnet8-b2-channels", nn.Dropout2d, False),
        ("resnet8-noaffine", None, False),
    ],
)
def test_the_blocks_of_the_ablation(name: str, dropped: type[nn.Module] | None, affine: bool) -> None:
    """Convolution, dropout, batch norm, ReLU in every block (WAU, Sec. 6.5); evaluation drops nothing."""
    network, plain = zoo.build(name), zoo.build("resnet8")
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    dropouts = [module for module in network.modules() if isinstance(module, (nn.Dropout, nn.Dropout2d))]
    assert len(norms) == 7
    assert all(norm.affine == affine for norm in norms)
    assert [type(module) for module in dropouts] == ([dropped] * 7 if dropped else [])
    assert all(module.p == 0.5 for module in dropouts)
    convolutions = [module for module in plain.modules() if isinstance(module, nn.Conv2d)]
    for own, theirs in zip((m for m in network.modules() if isinstance(m, nn.Conv2d)), convolutions, strict=True):
        own.weight.data.copy_(theirs.weight)
    network.fc.load_state_dict(plain.fc.state_dict())
    images = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(images), plain.eval()(images))
        if dropped:
            network.train()
            assert not torch.equal(network(images), network(images))


@pytest.mark.parametrize("name", ["resnet8-b3", "resnet8-channels", "resnet8-noaffine-channels", "resnet8-"])
def test_no_other_blocks(name: str) -> None:
    with pytest.raises(ValueError, match="unknown network"):
        zoo.build(name)
