"""The families of networks: sizes, wiring against functional references, start, images and errors."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from reference.networks import State, cifar_quick, densenet, lenet, preresnet, resnet18, resnext, shaken, vgg, wrn
from torch import Tensor, nn

from filtersmith import zoo
from filtersmith.zoo.densenet import DenseNet
from filtersmith.zoo.initial import he_fan_out
from filtersmith.zoo.preresnet import PreResNet
from filtersmith.zoo.resnet18 import SmallImageResNet
from filtersmith.zoo.resnext import ResNeXt29
from filtersmith.zoo.vgg import VggBn


@pytest.mark.parametrize(
    ("name", "for_ten", "for_hundred"),
    [
        ("resnet18-cifar", 11_173_962, 11_220_132),
        ("resnet34-cifar", 21_282_122, 21_328_292),
        ("preresnet110", 1_730_522, 1_736_372),
        ("vgg16-bn", 14_728_266, 14_774_436),
        ("vgg19-bn", 20_040_522, 20_086_692),
        ("resnext29-8x64d", 34_426_698, 34_518_948),
        ("densenet-bc-40-12", 176_122, 188_092),
        ("densenet-bc-100-12", 769_162, 800_032),
        # Without the linear layer of 448, 1,168 and 52 inputs the first two are those of RePr's table 4.
        ("densenet-40-12", 1_015_232 + 10 * 449, 1_015_232 + 100 * 449),
        ("densenet-100-12", 6_967_952 + 10 * 1_169, 6_967_952 + 100 * 1_169),
        ("densenet-5-12", 9_776 + 10 * 53, 9_776 + 100 * 53),
        ("cifar-quick", 117_034, 122_884),
        ("vgg16-kflo", 14_986_698, 15_032_868),
        ("wrn-16-8", 10_961_370, 11_007_540),
        ("wrn-28-2", 1_467_610, 1_479_220),
        ("wrn-28-5", 9_132_634, 9_161_524),
        ("wrn-28-10", 36_479_194, 36_536_884),
    ],
)
def test_sizes(name: str, for_ten: int, for_hundred: int) -> None:
    assert zoo.parameter_count(name, 10) == for_ten
    assert zoo.parameter_count(name, 100) == for_hundred


def test_sizes_by_hand() -> None:
    """Convolutions and batch norms counted one by one, in other shapes than the published ones."""
    channels, count = 16, 27 * 16
    for block in range(3):
        for _ in range(2):
            count += 2 * channels + 9 * channels * 4
            channels += 4
        if block < 2:
            count += 2 * channels + channels * channels
    assert zoo.parameter_count("densenet-10-4") == count + 2 * channels + 10 * channels + 10

    inner = 2 * 3
    stages = [(64, inner, 256), (256, 2 * inner, 512), (512, 4 * inner, 1024)]
    count = 27 * 64 + 128 + 1024 * 10 + 10
    for inputs, d, outputs in stages:
        for number in range(3):
            first = inputs if number == 0 else outputs
            count += first * d + 9 * d * (d // 2) + d * outputs + 4 * d + 2 * outputs
        count += inputs * outputs + 2 * outputs
    assert zoo.parameter_count("resnext29-2x3d") == count


@pytest.mark.parametrize(
    ("name", "side", "reference"),
    [
        ("resnet18-cifar", 13, resnet18),
        ("preresnet14", 13, preresnet),
        ("resnext29-2x2d", 13, resnext),
        ("densenet-5-3", 5, densenet),
        ("densenet-10-3", 14, densenet),
        ("densenet-bc-16-3", 14, densenet),
        ("vgg16-bn", 65, vgg),
        ("vgg19-bn", 33, vgg),
        ("vgg16-kflo", 70, vgg),
        ("cifar-quick", 33, cifar_quick),
        ("wrn-10-1", 13, wrn),  # the first stage has no projection
        ("wrn-16-2", 16, wrn),
        ("lenet5", 29, lenet),
    ],
)
@torch.no_grad()
def test_wiring_against_a_functional_reference(
    name: str, side: int, reference: Callable[[State, Tensor], Tensor]
) -> None:
    model = shaken(name, side)
    x = torch.randn(2, 2, side, side, dtype=torch.double)
    expected = reference(model.state_dict(), x)
    assert expected.std() > 1e-3
    torch.testing.assert_close(model(x), expected)


def projections(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if name.endswith("projection") and module is not None]


def test_projections_stand_where_the_shape_changes() -> None:
    with torch.device("meta"):
        assert projections(SmallImageResNet(34)) == [f"layer{n}.0.projection" for n in (2, 3, 4)]
        assert projections(PreResNet(20)) == [f"layer{n}.0.projection" for n in (2, 3)]
        assert projections(ResNeXt29(2, 2)) == [f"layer{n}.0.projection" for n in (1, 2, 3)]
        stages = [stage for stage in SmallImageResNet(34).children() if isinstance(stage, nn.Sequential)]
        assert [len(stage) for stage in stages] == [3, 4, 6, 3]


def test_groups_and_growth() -> None:
    model = ResNeXt29(4, 2)
    convs = [module for module in model.modules() if isinstance(module, nn.Conv2d) and module.groups > 1]
    assert [(c.in_channels, c.out_channels, c.groups) for c in convs] == [
        shape for width in (8, 16, 32) for shape in [(width, width, 4)] * 3
    ]
    assert [c.stride for c in convs] == [(1, 1)] * 3 + [(2, 2), (1, 1), (1, 1)] * 2
    compressed = DenseNet(16, 5, bc=True)  # 10 + 2 * 5 = 20 -> 10, 20 -> 10, 20
    assert compressed.fc.in_features == 20
    assert DenseNet(10, 5).fc.in_features == 16 + 6 * 5


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("preresnet14", "layer3.1.conv2"),
        ("resnext29-2x32d", "layer2.1.conv2"),  # 2 groups: the fan out is that of all filters
        ("densenet-10-32", "features.block2.1.conv"),
        ("densenet-bc-10-32", "features.block2.0.reduce.0"),
    ],
)
def test_convolutions_start_as_he_says(name: str, layer: str) -> None:
    assert_he(zoo.build(name).get_submodule(layer))


def assert_he(conv: nn.Module) -> None:
    assert isinstance(conv, nn.Conv2d)
    deviation = (2 / (conv.out_channels * conv.kernel_size[0] ** 2)) ** 0.5
    assert conv.weight.std().item() == pytest.approx(deviation, rel=0.05)


def test_biases_and_classifiers_start_as_documented() -> None:
    model = VggBn(16, num_classes=100)
    assert_he(model.features.get_submodule("conv4"))
    assert model.fc.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not any(p.any() for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear)) for p in [m.bias])
    assert not ResNeXt29(1, 1).fc.bias.any()
    assert not DenseNet(7, 2).fc.bias.any()
    assert PreResNet(8).fc.bias.any()  # as torch starts it
    bias = nn.Conv2d(2, 2, 1)
    before = bias.bias.detach().clone()  # type: ignore[union-attr]
    he_fan_out(bias)
    assert torch.equal(bias.bias, before)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "sides"),
    [
        ("resnet18-cifar", (1, 4, 33)),
        ("preresnet8", (1, 5, 33)),
        ("resnext29-2x2d", (1, 5, 33)),
        ("densenet-7-2", (4, 7, 33)),
        ("densenet-bc-10-2", (4, 7, 33)),
        ("densenet-5-2", (1, 3)),
        ("vgg16-bn", (32, 65)),
    ],
)
@torch.no_grad()
def test_sizes_of_images(name: str, sides: tuple[int, ...]) -> None:
    for side in sides:
        model = zoo.build(name, 11, 2, image_size=side).eval()
        assert model(torch.randn(2, 2, side, side)).shape == (2, 11)


@pytest.mark.parametrize(
    ("name", "smallest"),
    [("densenet-7-2", 4), ("densenet-bc-10-2", 4), ("vgg16-bn", 32), ("vgg19-bn", 32), ("vgg16-kflo", 32)],
)
def test_smallest_image_is_where_torch_refuses(name: str, smallest: int) -> None:
    small = smallest - 1
    with torch.device("meta"), pytest.raises(RuntimeError):
        zoo.build(name)(torch.empty(2, 3, small, small))
    with pytest.raises(ValueError, match=f"^image_size must be at least {smallest} for {name}, got {small}$"):
        zoo.build(name, image_size=small)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("preresnet111", "preresnet depth must be 6n+2 and at least 8 (8, 14, 20, ...), got 111"),
        ("preresnet2", "preresnet depth must be 6n+2"),
        ("densenet-41-12", "densenet depth must be 3n+4 and at least 7 (7, 10, 13, ...), or 5, got 41"),
        ("densenet-4-12", "densenet depth must be 3n+4"),
        ("densenet-bc-43-12", "densenet-bc depth must be 6n+4 and at least 10 (10, 16, 22, 28, ...), got 43"),
        ("densenet-bc-5-12", "densenet-bc depth must be 6n+4"),
        ("densenet-40-0", "densenet growth rate must be a whole number of at least 1, got 0"),
        ("densenet-40", "unknown network 'densenet-40' (did you mean 'densenet-40-12'?)"),
        ("resnext29-0x64d", "resnext groups must be a whole number of at least 1, got 0"),
        ("resnext29-8x0d", "resnext width must be a whole number of at least 1, got 0"),
        ("resnext29-8x64", "did you mean 'resnext29-8x64d'?"),
        ("resnext50-32x4d", "unknown network 'resnext50-32x4d'"),
        ("vgg19", "did you mean 'vgg19-bn'?"),
        ("vgg13-bn", "did you mean 'vgg1"),
    ],
)
def test_bad_name(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        zoo.build(name)
    assert "\n" not in str(error.value)


def test_bad_depth_of_a_class() -> None:
    with pytest.raises(ValueError, match="vgg-bn depth must be 16 or 19, got 13"):
        VggBn(13)
