"""Our own networks: published sizes, wiring against slow references, names and errors."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter

import pytest
import torch
import torch.fx
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
        ("vanilla-2-32", 896 + 9_248 + 2 * 64),
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


# A small network of each family, or the smallest that there is.
SMALL = (
    "vanilla-2-4",
    "resnet8",
    "resnet18-cifar",
    "preresnet8",
    "alexnet",
    "vgg16-bn",
    "vgg16-kflo",
    "cifar-quick",
    "wrn-10-2",
    "resnext29-2x2d",
    "densenet-7-4",
    "densenet-bc-10-4",
    "dacnn5-w4",
    "dacnn18-mix-reg-w4",
    "lenet5",
)


@pytest.mark.parametrize("name", zoo.names())
def test_every_listed_network_fits_classes_channels_and_images(name: str) -> None:
    with torch.device("meta"):
        model = zoo.build(name, num_classes=7, in_channels=1, image_size=40)
    assert model.training
    assert zoo.costs(name, zoo.Task(7, 1, 40))[0] == size(model)  # it runs, too


@pytest.mark.parametrize("name", SMALL)
def test_a_step_changes_every_parameter_and_a_seed_repeats_the_network(name: str) -> None:
    def make(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return zoo.build(name, num_classes=7, in_channels=1, image_size=40)

    model, again, other = make(3), make(3), make(4)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert not torch.equal(next(model.parameters()), next(other.parameters()))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    out = model(torch.randn(4, 1, 40, 40))
    assert out.shape == (4, 7)
    F.cross_entropy(out, torch.tensor([0, 1, 2, 3])).backward()
    optimizer.step()
    pairs = zip(model.named_parameters(), again.parameters(), strict=True)
    assert [key for (key, new), old in pairs if torch.equal(new, old)] == []


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_tracing_sees_every_layer_once_and_the_memory_format_does_not_matter(name: str) -> None:
    model = zoo.build(name).eval()
    x = torch.randn(2, 3, 32, 32)
    expected = model(x)
    traced = torch.fx.symbolic_trace(model)
    assert torch.equal(traced(x), expected)
    calls = Counter(node.target for node in traced.graph.nodes if node.op == "call_module")
    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.Linear)
    assert {calls[key] for key, module in model.named_modules() if isinstance(module, kinds)} == {1}
    functions = {node.target for node in traced.graph.nodes if node.op == "call_function"}
    assert functions.isdisjoint({F.conv2d, F.batch_norm, F.linear})
    last = model.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected, rtol=1e-3, atol=1e-4)


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
    for name in SMALL:
        torch.manual_seed(0)
        plain = zoo.build(name)
        torch.manual_seed(0)
        small = zoo.build(name, small_images=True)
        assert str(plain) == str(small)
        assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), small.parameters(), strict=True))


def test_a_name_belongs_to_one_family() -> None:
    assert len(set(zoo.names())) == len(zoo.names())
    for info in zoo.MODELS:
        for name in (*info.names, *(["timm:resnet20"] if info.library == "timm" else [])):
            assert [other.pattern for other in zoo.MODELS if re.fullmatch(other.regex, name)] == [info.pattern]
        assert set(info.tables) <= set(info.names)
    assert not [name for name in zoo.names() if ":" in name]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet21", "depth must be 6n+2 and at least 8 (8, 14, 20, ...), got 21"),
        ("resnet18", "ImageNet's is torchvision:resnet18, made for small images it is resnet18-cifar), got 18"),
        ("resnet101", "ImageNet's is torchvision:resnet101), got 101"),
        ("resnet50-cifar", "resnet-cifar depth must be 18 or 34 (resnetD without -cifar: 6n+2), got 50"),
        ("resnet2", "depth must be 6n+2"),
        ("resnt20", "did you mean 'resnet20'?"),
        ("ResNet20", "did you mean 'resnet20'?"),
        ("resnet020", "unknown network 'resnet020'"),
        ("vanilla-8", "unknown network 'vanilla-8'"),
        ("vanilla-0-32", "vanilla layers must be a whole number of at least 1, got 0"),
        ("vanilla-3-0", "vanilla width must be a whole number of at least 1, got 0"),
        ("alexnet\n", "did you mean 'alexnet'?"),
        ("", "unknown network ''"),
        ("nonet", "known: vanilla-N-X, resnetD, resnetD-cifar, "),
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
