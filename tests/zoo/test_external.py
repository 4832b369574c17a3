"""Networks of timm and torchvision: their stems on small images, channels, names and errors."""

from __future__ import annotations

import re
import sys

import pytest
import torch
from torch import nn

from filtersmith import zoo
from filtersmith.zoo.external import fit_stem

LIBRARIES = ["timm", "torchvision"]


@pytest.fixture(scope="module", autouse=True)
def _libraries() -> None:
    for library in LIBRARIES:
        pytest.importorskip(library)


def outputs(model: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """What every module of ``model`` gives for ``x``, in evaluation mode."""
    found: dict[str, torch.Tensor] = {}

    def keep(name: str, out: object) -> None:
        if isinstance(out, torch.Tensor):
            found[name] = out

    handles = [
        module.register_forward_hook(lambda _m, _i, out, name=name: keep(name, out))
        for name, module in model.named_modules()
    ]
    with torch.no_grad():
        model.eval()(x)
    for handle in handles:
        handle.remove()
    return found


def meta(name: str, *, small_images: bool, in_channels: int = 3) -> nn.Module:
    with torch.device("meta"):
        return zoo.build(name, 10, in_channels, small_images=small_images)


@pytest.mark.parametrize("library", LIBRARIES)
def test_resnet18_on_small_images(library: str) -> None:
    torch.manual_seed(0)
    model = zoo.build(f"{library}:resnet18", num_classes=100, small_images=True)
    # 11.220 M for 100 classes, the CIFAR ResNet-18 of the literature.
    assert sum(parameter.numel() for parameter in model.parameters()) == 11_220_132
    conv = model.conv1
    assert isinstance(conv, nn.Conv2d)
    assert (conv.kernel_size, conv.stride, conv.padding, conv.bias) == ((3, 3), (1, 1), (1, 1), None)
    found = outputs(model, torch.randn(2, 3, 32, 32))
    assert found["conv1"].shape == (2, 64, 32, 32)
    assert found["layer1"].shape == (2, 64, 32, 32)  # no pooling in front of it
    assert found[""].shape == (2, 100)
    assert model.training is False


@pytest.mark.parametrize("library", LIBRARIES)
def test_without_small_images_the_network_is_the_librarys_own(library: str) -> None:
    model = zoo.build(f"{library}:resnet18", num_classes=5)
    assert model.training
    conv = model.conv1
    assert isinstance(conv, nn.Conv2d)
    assert (conv.kernel_size, conv.stride) == ((7, 7), (2, 2))
    assert outputs(model, torch.randn(1, 3, 64, 64))["layer1"].shape == (1, 64, 16, 16)


# name, the module whose maps are looked at, their height for 64 pixels before and after.
@pytest.mark.parametrize(
    ("name", "module", "before", "after"),
    [
        ("torchvision:densenet121", "features.denseblock1.denselayer1.conv1", 16, 64),
        ("torchvision:squeezenet1_1", "features.3.squeeze", 15, 64),
        ("torchvision:googlenet", "conv2.conv", 16, 64),
        ("torchvision:shufflenet_v2_x0_5", "conv1", 32, 64),
        ("torchvision:efficientnet_b0", "features.0", 32, 64),
        ("torchvision:convnext_tiny", "features.0", 16, 64),
        ("timm:resnet26d", "layer1", 16, 64),  # three convolutions in the stem
        ("timm:resnetblur18", "layer1", 16, 64),  # a pooling made of maximum and blur
        ("timm:resnetv2_50", "stages.0", 16, 64),
        ("timm:repvgg_a0", "stem", 32, 64),  # 3x3 and 1x1 side by side
        ("timm:convnext_atto", "stem", 16, 64),
        ("timm:hieradet_small", "patch_embed", 16, 64),  # its poolings belong to blocks
    ],
)
def test_stems(name: str, module: str, before: int, after: int) -> None:
    x = torch.empty(2, 1, 64, 64, device="meta")
    for small_images, height in ((False, before), (True, after)):
        found = outputs(meta(name, small_images=small_images, in_channels=1), x)
        shape = found[module].shape
        assert height in (shape[1:3] if name == "timm:hieradet_small" else shape[2:])  # it ends in channels
        assert found[""].shape == (2, 10)


@pytest.mark.parametrize("name", ["torchvision:vgg11_bn", "timm:vgg11", "torchvision:vit_b_16", "timm:dla34"])
def test_networks_without_such_a_stem_stay(name: str) -> None:
    assert str(meta(name, small_images=True)) == str(meta(name, small_images=False))


def test_stem_keeps_filters_bias_and_the_variance_of_its_maps() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 512, 7, stride=2, padding=3, groups=1), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    model[0].weight.data.mul_(0.3)  # type: ignore[operator,union-attr]
    bias = model[0].bias.detach().clone()  # type: ignore[operator,union-attr]
    x = torch.randn(4, 3, 32, 32)
    before = outputs(model, x)["0"][..., 4:-4, 4:-4] - bias[:, None, None]
    fit_stem(model)
    after = outputs(model, x)["0"][..., 4:-4, 4:-4] - bias[:, None, None]
    assert torch.equal(model[0].bias, bias)  # type: ignore[arg-type]
    assert isinstance(model[2], nn.Identity)
    assert after.std().item() == pytest.approx(before.std().item(), rel=0.05)


def test_pointwise_convolutions_beside_the_first_one_stay_pointwise() -> None:
    model = meta("timm:repvgg_a0", small_images=True)
    kernels = [model.get_submodule(f"stem.{name}.conv").kernel_size for name in ("conv_kxk", "conv_1x1")]
    assert kernels == [(3, 3), (1, 1)]


def test_a_stem_of_the_right_kernel_keeps_its_weights() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 8, 3))
    weights = [parameter.clone() for parameter in model.parameters()]
    fit_stem(model)
    assert (model[0].stride, model[0].padding) == ((1, 1), (1, 1))
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))


def test_weight_standardisation_survives_the_new_stem() -> None:
    torch.manual_seed(0)
    model = zoo.build("timm:nf_resnet26", small_images=True)
    conv = model.get_submodule("stem.conv")
    assert type(conv).__name__ == "ScaledStdConv2d"
    # Its scale is gamma / sqrt(fan in), gamma being the same throughout the network.
    gamma = float(conv.scale) * 27**0.5  # type: ignore[arg-type]
    untouched = model.get_submodule("stages.0.0.conv1")
    assert gamma == pytest.approx(float(untouched.scale) * untouched.weight[0].numel() ** 0.5)  # type: ignore


@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:resnet18", "torchvision:googlenet"])
@pytest.mark.parametrize("in_channels", [1, 4])
def test_other_channels(name: str, in_channels: int) -> None:
    def make() -> nn.Module:
        torch.manual_seed(1)
        return zoo.build(name, 7, in_channels, small_images=True)

    model, again = make(), make()
    # Plain logits in training mode too: GoogLeNet's auxiliary classifiers are left out.
    out = model(torch.randn(2, in_channels, 32, 32))
    assert out.shape == (2, 7)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_parameter_count_where_the_meta_device_fails() -> None:
    name = "torchvision:regnet_y_400mf"
    with pytest.raises(NotImplementedError):
        meta(name, small_images=False)
    expected = sum(parameter.numel() for parameter in zoo.build(name).parameters())
    before = torch.get_rng_state()
    assert zoo.parameter_count(name) == expected
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:resnet81", "unknown timm classification network 'resnet81' (did you mean 'resnet18' or "),
        ("timm:", "unknown timm classification network ''"),
        ("timm:resnet18.nobody", "unknown timm network 'resnet18.nobody'"),
        ("timm:hf-hub:someone/resnet18", "unknown timm classification network"),
        ("timm:mobilenetv5_300m_enc", "is an encoder"),
        ("torchvision:resnet19", "did you mean 'resnet1"),
        ("torchvision:fasterrcnn_resnet50_fpn", "unknown torchvision classification network"),
    ],
)
def test_bad_name(name: str, message: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=re.escape(message)) as error:
        zoo.build(name)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 250


@pytest.mark.parametrize("library", LIBRARIES)
def test_missing_library_names_the_extra(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(
        ValueError, match=re.escape(f'need {library}, which is not installed: pip install "filtersmith[vision]"')
    ):
        zoo.build(f"{library}:resnet18")
