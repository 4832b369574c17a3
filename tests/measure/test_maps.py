"""Feature maps against hooks that copy, scaled and counted in Python lists."""

from __future__ import annotations

import copy
import doctest
import statistics
from typing import Any

import pytest
import torch
from reference.nets import assert_same
from reference.unchanged import state
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DataParallel

from filtersmith.measure import maps
from filtersmith.measure.maps import NotMapsError, feature_maps
from filtersmith.measure.taps import Where


class Residual(nn.Module):
    """Batch norms, activations and a sum in place; a convolution that is called twice; one for training only."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.bn, self.relu = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True)
        self.b, self.norm, self.out = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True)
        self.twice, self.aux = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 2, 1)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn(self.a(x)))
        y = self.norm(self.b(x))
        y += x
        x = self.twice(F.relu(self.twice(self.out(y)), inplace=True))
        return self.fc((x + self.aux(x).sum() if self.training else x).mean((2, 3)))


def residual() -> Residual:
    model = Residual()
    for norm in (model.bn, model.norm):
        for values in (norm.running_mean, norm.weight.data, norm.bias.data):
            values.normal_()  # type: ignore[union-attr]
    return model


def copied(model: nn.Module, name: str, images: Tensor) -> Tensor:
    """What the first call of a module gives, before anything writes into it."""
    model, kept = copy.deepcopy(model).eval(), []
    model.get_submodule(name).register_forward_hook(lambda m, a, out: kept.append(out.clone()))
    with torch.no_grad():
        model(images)
    return kept[0]


@pytest.mark.parametrize(
    ("layer", "where", "module"),
    [
        ("a", "conv", "a"),
        ("a", "after-bn", "bn"),
        ("a", "after-relu", "relu"),
        ("b", "conv", "b"),
        ("b", "after-bn", "norm"),
        ("b", "after-relu", "norm"),  # the ReLU reads a sum
        ("twice", "after-bn", "twice"),
        ("out", "conv", "out"),
    ],
)
def test_maps_are_those_of_hooks(layer: str, where: Where, module: str) -> None:
    model, images, chosen = residual(), torch.randn(3, 3, 7, 6), [2, 0, 3, 2]
    with torch.no_grad():
        model.a.weight[3] = 0  # a constant channel ...
        images[1] = 0.25  # ... and an image that is almost constant, but for its edges
        model.a.weight[0] *= 1e-3
    values = copied(model, module, images)
    found, some = feature_maps(model, layer, images, where=where), feature_maps(model, layer, images, channels=chosen)
    assert found.maps.shape == values.shape
    assert found.maps.dtype == found.low.dtype == torch.float32
    constant = 0
    for c in range(4):
        low, high = values[:, c].min().item(), values[:, c].max().item()
        assert (found.low[c].item(), found.high[c].item()) == (low, high)
        for n in range(3):
            constant += statistics.pstdev(values[n, c].flatten().tolist()) < 1e-3
            expected = [(v - low) / (high - low or 1) for v in values[n, c].flatten().tolist()]
            assert found.maps[n, c].flatten().tolist() == pytest.approx(expected, abs=1e-6)
    assert found.constant == pytest.approx(constant / 12)
    assert ((found.maps >= 0) & (found.maps <= 1)).all()
    every = feature_maps(model, layer, images)
    for got, whole in ((some.maps, every.maps[:, chosen]), (some.low, every.low[chosen])):
        assert torch.equal(got, whole)


def test_the_share_of_constant_maps() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 1, bias=False))
    model[0].weight.data = torch.tensor([0.0, 0.0009, 0.0011, 5.0]).view(4, 1, 1, 1)
    images = torch.tensor([[-1.0, 1.0], [3.0, 3.0]]).view(2, 1, 1, 2)  # deviations of 1 and 0
    found = feature_maps(model, "0", images)
    assert found.constant == 6 / 8
    assert not found.maps[:, 0].any()
    torch.testing.assert_close(found.maps[0, 1:], torch.tensor([[0, 0.5]]).expand(3, 1, 2))
    model[0].weight.data[3] = 3e38  # whose range float32 does not hold
    torch.testing.assert_close(feature_maps(model, "0", images / 3).maps[0, 3], torch.tensor([[0, 0.5]]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_images_take_the_type_of_the_network(dtype: torch.dtype) -> None:
    model, images = residual(), torch.randn(2, 3, 6, 6)
    expected = feature_maps(model, "b", images).maps
    found = feature_maps(model.to(dtype), "b", images).maps
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0)


def test_the_network_and_the_images_are_left_as_they_were() -> None:
    model, images = nn.Sequential(nn.Dropout(), residual()), torch.randn(2, 3, 6, 6)
    model[1].bn.eval()
    model[1].b.weight.requires_grad_(False)
    for p in model[1].a.parameters():
        p.grad = torch.randn_like(p)
    before, given = state(model), images.clone()
    feature_maps(model, "1.b", images)
    for bad in ({"layer": "1.fc"}, {"layer": "1.b", "channels": [9]}):
        with pytest.raises(ValueError, match="must be"):
            feature_maps(model, images=images, **bad)  # type: ignore[arg-type]
    assert_same(state(model), before)
    assert torch.equal(images, given)
    with torch.inference_mode():
        inside = feature_maps(model, "1.b", images)
    assert torch.equal(inside.maps, feature_maps(DataParallel(model), "1.b", images).maps)


class Patches(nn.Module):
    """Its convolution sees four patches of each image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.unflatten(2, (2, 3)).transpose(1, 2).flatten(0, 1))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"layer": "fc"}, r"the output of layer 'fc' must be maps \(images, channels, H, W\), got \(2, 2\)"),
        ({"model": Patches(), "layer": "conv"}, "the output of layer 'conv' must be maps"),
        ({"layer": "relou"}, "unknown layer 'relou' .did you mean 'relu'"),
        ({"layer": "aux"}, "layer 'aux' is not called"),
        ({"where": "relu"}, "where must be 'conv' or"),
        ({"channels": [0, 4]}, "channels must be below 4, the number of channels of layer 'a', got 4"),
        ({"channels": [-1]}, "channels must be a whole number of at least 0, got -1"),
        ({"channels": []}, "channels must be at least one whole number"),
        ({"channels": 3}, "channels must be a sequence of whole numbers, got 3"),
        ({"images": torch.randn(2, 2, 6, 6)}, r"Residual cannot take images \(2, 2, 6, 6\)"),
        ({"images": torch.randn(0, 3, 6, 6)}, r"images must be a tensor of at least one image, got \(0, 3, 6, 6\)"),
        ({"images": [1]}, "images must be a tensor of at least one image, got 'list'"),
        ({"images": torch.full((2, 3, 6, 6), torch.nan), "channels": [3]}, "layer 'a': channel 3 has values that"),
    ],
)
def test_refusals(given: dict[str, Any], message: str) -> None:
    options: dict[str, Any] = {"model": residual(), "layer": "a", "images": torch.randn(2, 3, 6, 6)} | given
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        feature_maps(**options)
    assert "\n" not in str(caught.value)


def test_what_is_no_picture_is_told_from_other_errors() -> None:
    images = torch.randn(2, 3, 6, 6)
    for model, layer in ((residual(), "fc"), (Patches(), "conv")):
        with pytest.raises(NotMapsError):
            feature_maps(model, layer, images)
    with pytest.raises(ValueError, match="not called") as error:
        feature_maps(residual(), "aux", images)
    assert not isinstance(error.value, NotMapsError)


def test_the_example() -> None:
    results = doctest.testmod(maps)
    assert (results.attempted, results.failed) == (4, 0)
