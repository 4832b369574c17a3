"""What all networks of the zoo have in common: steps, tracing, names and errors."""

from __future__ import annotations

import re
from collections import Counter

import pytest
import torch
import torch.fx
import torch.nn.functional as F
from torch import nn

from filtersmith import zoo


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


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
    """The deep and the wide ones, too, in shapes alone."""
    with torch.device("meta"), torch.no_grad():
        model = zoo.build(name, num_classes=7, in_channels=1, image_size=40)
        assert model(torch.empty(2, 1, 40, 40)).shape == (2, 7)
    assert model.training


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


def test_small_images_is_without_effect_on_our_own() -> None:
    for name in SMALL:
        torch.manual_seed(0)
        plain = zoo.build(name)
        torch.manual_seed(0)
        small = zoo.build(name, small_images=True)
        assert str(plain) == str(small)
        assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), small.parameters(), strict=True))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnt20", "did you mean 'resnet20'?"),
        ("ResNet20", "did you mean 'resnet20'?"),
        ("resnet020", "unknown network 'resnet020'"),
        ("alexnet\n", "did you mean 'alexnet'?"),
        ("", "unknown network ''"),
        ("nonet", "known: vanilla-N-X[-nobn][-dropout], resnetD[-b1|-b2|-noaffine], resnetD-cifar, "),
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
