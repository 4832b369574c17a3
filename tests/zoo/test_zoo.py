"""Our own networks: published sizes, wiring against slow references, names and errors."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from filtersmith import zoo
from filtersmith.zoo.alexnet import CifarAlexNet
from filtersmith.zoo.resnet import CifarResNet, option_a
from filtersmith.zoo.vanilla import Vanilla


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# RePr's table 4 without the linear layer (vanilla, resnet); the CIFAR AlexNet whole.
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("vanilla", 19_584),
        ("vanilla-8-32", 66_144),
        ("vanilla-13-32", 112_704),
        ("vanilla-18-32", 159_264),
        ("resnet20", 269_072),
        ("resnet32", 463_504),
        ("resnet50", 755_152),
        ("resnet110", 1_727_312),
        ("resnet182", 2_893_904),
    ],
)
def test_size_without_the_linear_layer(name: str, count: int) -> None:
    with torch.device("meta"):
        model = zoo.build(name)
    assert size(model) - size(model.fc) == count  # type: ignore[arg-type]


def test_whole_sizes() -> None:
    assert zoo.parameter_count("vanilla") == 19_584 + 327_690
    assert zoo.parameter_count("vanilla-3-32") == zoo.parameter_count("vanilla")
    assert zoo.parameter_count("alexnet") == 2_472_266
    assert zoo.parameter_count("alexnet", 100) == 2_495_396


@pytest.mark.parametrize("name", zoo.names())
def test_every_listed_network_trains_on_its_task_and_repeats_under_a_seed(name: str) -> None:
    def make() -> nn.Module:
        torch.manual_seed(3)
        return zoo.build(name, num_classes=7, in_channels=1, image_size=40)

    model, again = make(), make()
    assert model.training
    out = model(torch.randn(2, 1, 40, 40))
    assert out.shape == (2, 7)
    out.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert zoo.parameter_count(name, 7, 1, image_size=40) == size(model)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    other = zoo.build(name, num_classes=7, in_channels=1, image_size=40)
    assert not torch.equal(next(model.parameters()), next(other.parameters()))


def test_vanilla_is_conv_norm_relu_then_one_linear_layer() -> None:
    torch.manual_seed(0)
    model, plain = Vanilla(2, 5, image_size=6), Vanilla(2, 5, image_size=6, bn=False)
    assert [type(m).__name__ for m in model.features] == ["Conv2d", "BatchNorm2d", "ReLU"] * 2
    assert [type(m).__name__ for m in plain.features] == ["Conv2d", "ReLU"] * 2
    x = torch.randn(3, 3, 6, 6)
    first, second = plain.features[0], plain.features[2]
    maps = F.conv2d(x, first.weight, first.bias, padding=1).clamp(min=0)
    maps = F.conv2d(maps, second.weight, second.bias, padding=1).clamp(min=0)
    torch.testing.assert_close(plain(x), maps.reshape(3, 180) @ plain.fc.weight.T + plain.fc.bias)


def test_resnet_shortcut_against_loops() -> None:
    x = torch.randn(2, 4, 5, 7)
    slow = torch.zeros(2, 8, 3, 4)
    for channel in range(4):
        for row in range(3):
            for column in range(4):
                slow[:, 2 + channel, row, column] = x[:, channel, 2 * row, 2 * column]
    assert torch.equal(option_a(x, 8, 2), slow)


def test_resnet_blocks_add_their_shortcut_before_the_last_relu() -> None:
    model = CifarResNet(14)
    x = torch.randn(2, 16, 8, 8)
    for stage, expected in ((model.layer1, x), (model.layer2, option_a(x, 32, 2))):
        for block in stage:
            nn.init.zeros_(block.bn2.weight)  # the residual branch is silent
        torch.testing.assert_close(stage(x), F.relu(expected))
    block = CifarResNet(8).layer1[0]
    slow = block.bn2(block.conv2(F.relu(block.bn1(block.conv1(x))))) + x
    torch.testing.assert_close(block(x), F.relu(slow))


def test_resnet_takes_any_image_and_starts_as_he_says() -> None:
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


@pytest.mark.parametrize("side", [29, 32, 63, 64])
def test_alexnet_linear_layer_fits_the_image(side: int) -> None:
    assert CifarAlexNet(image_size=side)(torch.randn(1, 3, side, side)).shape == (1, 10)


def test_alexnet_smallest_image_is_where_torch_refuses() -> None:
    model = CifarAlexNet(image_size=29)
    with pytest.raises(RuntimeError):
        model(torch.randn(1, 3, 28, 28))
    with pytest.raises(ValueError, match="image_size must be at least 29 for alexnet, got 28"):
        zoo.build("alexnet", image_size=28)


def test_small_images_is_without_effect_on_our_own() -> None:
    for name in ("vanilla", "resnet20", "alexnet", "cifar-quick", "vgg16-kflo", "wrn-10-1", "lenet5"):
        torch.manual_seed(0)
        plain = zoo.build(name)
        torch.manual_seed(0)
        small = zoo.build(name, small_images=True)
        assert str(plain) == str(small)
        assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), small.parameters(), strict=True))


def test_a_name_belongs_to_one_family() -> None:
    assert len(set(zoo.names())) == len(zoo.names())
    for info in zoo.MODELS:
        for name in (*info.names, *(["timm:resnet20", "torchvision:alexnet"] if not info.names else [])):
            owners = [other.pattern for other in zoo.MODELS if re.fullmatch(other.regex, name)]
            assert len(owners) == 1
            assert owners == [info.pattern] or not info.names


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet21", "depth must be 6n+2 and at least 8 (8, 14, 20, ...), got 21"),
        ("resnet18", "ImageNet's is torchvision:resnet18"),
        ("resnet2", "depth must be 6n+2"),
        ("resnt20", "did you mean 'resnet20'?"),
        ("ResNet20", "did you mean 'resnet20'?"),
        ("resnet020", "unknown network 'resnet020'"),
        ("vanilla-8", "unknown network 'vanilla-8'"),
        ("vanilla-0-32", "vanilla layers must be a whole number of at least 1, got 0"),
        ("vanilla-3-0", "vanilla width must be a whole number of at least 1, got 0"),
        ("alexnet\n", "did you mean 'alexnet'?"),
        ("", "unknown network ''"),
        (None, "unknown network None"),
    ],
)
def test_bad_name(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        zoo.build(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("option", ["num_classes", "in_channels", "image_size"])
@pytest.mark.parametrize("value", [0, -1, 2.0, "3", None, True])
@pytest.mark.parametrize("name", ["resnet20", "timm:resnet18"])  # refused before timm is asked for
def test_bad_number(name: str, option: str, value: object) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{option} must be a whole number of at least 1, got {value!r}")):
        zoo.build(name, **{option: value})  # type: ignore[arg-type]


def test_numpy_counts_are_whole_numbers() -> None:
    numpy = pytest.importorskip("numpy")
    assert zoo.build("resnet8", numpy.int64(4)).fc.out_features == 4  # type: ignore[union-attr]


def test_small_images_is_true_or_false() -> None:
    with pytest.raises(ValueError, match="small_images must be True or False, got 'no'"):
        zoo.build("resnet20", small_images="no")  # type: ignore[arg-type]


def test_import_needs_torch_alone() -> None:
    # What torch itself imports, early or late, does not count.
    extras = (
        "accelerate datasets jinja2 matplotlib omegaconf pandas PIL pydantic rich safetensors scipy sklearn "
        "tensorboard timm torchvision typer yaml"
    )
    code = (
        "import sys, torch; before = set(sys.modules); import filtersmith.zoo as zoo; zoo.build('resnet8');"
        f"new = {{name.split('.')[0] for name in set(sys.modules) - before}} & set({extras!r}.split());"
        "print(*sorted(new))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
