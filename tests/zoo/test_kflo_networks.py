"""The networks of KFLO's tables: what is their own; test_families has their sizes and wiring."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from filtersmith import zoo
from filtersmith.zoo.cifar_quick import CifarQuick
from filtersmith.zoo.lenet import LeNet5
from filtersmith.zoo.vgg import KfloVgg16
from filtersmith.zoo.wrn import WideResNet


def test_size_of_lenet_for_mnist() -> None:
    assert zoo.parameter_count("lenet5", 10, 1, image_size=28) == 61_706
    assert sum(parameter.numel() for parameter in LeNet5().parameters()) == 61_706


def test_biases_of_cifar_quick_are_those_of_the_published_kflo_size() -> None:
    count = 0
    for module in CifarQuick().modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            out = len(module.weight)
            count += 4 * module.weight.numel() + out * 4 * out + (4 * out if module.bias is not None else 0)
        elif isinstance(module, nn.BatchNorm2d):
            count += 2 * module.num_features
    assert count == 508_728


def test_wrn_projections_stand_where_the_channels_change() -> None:
    def projections(width: int) -> list[str]:
        return [name for name, _ in WideResNet(16, width).named_modules() if name.endswith("projection")]

    assert projections(1) == ["layer2.0.projection", "layer3.0.projection"]
    assert projections(2) == ["layer1.0.projection", "layer2.0.projection", "layer3.0.projection"]


@torch.no_grad()
def test_wrn_drops_activations_right_before_the_second_convolution() -> None:
    block = WideResNet(10, 2, dropout=1.0).layer1[0]
    nn.init.ones_(block.bn2.bias)  # a dropout before it would leave ones
    inputs: list[Tensor] = []
    block.conv2.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    x = torch.randn(4, 16, 8, 8)
    torch.testing.assert_close(block(x), block.projection(F.relu(block.bn1(x))))
    block.eval()(x)
    assert [bool(maps.any()) for maps in inputs] == [False, True]
    assert {m.p for m in zoo.build("wrn-16-1").modules() if isinstance(m, nn.Dropout)} == {0.3}


def test_wrn_starts_as_its_authors_say() -> None:
    torch.manual_seed(0)
    model = WideResNet(10, 4)
    for conv in (model.layer1[0].conv1, model.layer2[0].conv2, model.layer3[0].projection):
        fan_out = conv.out_channels * conv.kernel_size[0] ** 2
        assert conv.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
    assert not model.fc.bias.any()


@pytest.mark.parametrize(
    ("name", "sides"),
    [
        ("cifar-quick", (15, 16, 28, 33, 64)),
        ("vgg16-kflo", (32, 33, 65)),
        ("wrn-10-1", (1, 4, 9, 33)),
        ("lenet5", (12, 13, 28, 31, 32)),
    ],
)
@pytest.mark.parametrize("in_channels", [1, 3])
@torch.no_grad()
def test_sizes_of_images(name: str, sides: tuple[int, ...], in_channels: int) -> None:
    for side in sides:
        model = zoo.build(name, 11, in_channels, image_size=side).eval()
        assert model(torch.randn(2, in_channels, side, side)).shape == (2, 11)


@pytest.mark.parametrize(
    ("name", "smallest", "model"),
    [
        ("cifar-quick", 15, CifarQuick(image_size=15)),
        ("vgg16-kflo", 32, KfloVgg16()),
        ("lenet5", 12, LeNet5(in_channels=3, image_size=12)),
    ],
)
def test_smallest_image_is_where_torch_refuses(name: str, smallest: int, model: nn.Module) -> None:
    small = smallest - 1
    with pytest.raises(RuntimeError):
        model(torch.randn(2, 3, small, small))
    with pytest.raises(ValueError, match=f"^image_size must be at least {smallest} for {name}, got {small}$"):
        zoo.build(name, image_size=small)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wrn-27-2", "wrn depth must be 6n+4 and at least 10 (10, 16, 22, 28, ...), got 27"),
        ("wrn-4-2", "wrn depth must be 6n+4 and at least 10"),
        ("wrn-0-2", "wrn depth must be 6n+4 and at least 10"),
        ("wrn-28-0", "wrn width must be a whole number of at least 1, got 0"),
        ("wrn-28", "unknown network 'wrn-28' (did you mean 'wrn-28-"),
        ("wrn-028-2", "did you mean 'wrn-28-2'?"),
        ("WRN-28-10", "did you mean 'wrn-28-10'?"),
        ("cifar-quick-bn", "did you mean 'cifar-quick'?"),
        ("vgg16", "did you mean 'vgg16-bn'?"),
        ("lenet", "did you mean 'lenet5'?"),
    ],
)
def test_bad_name(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        zoo.build(name)
    assert "\n" not in str(error.value)
