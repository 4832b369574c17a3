"""The images found against the known optimum of linear layers, and that the activation grows."""

from __future__ import annotations

import doctest
from typing import Any

import pytest
import torch
from reference.nets import assert_same
from reference.unchanged import state
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DataParallel

from filtersmith.measure import maximise
from filtersmith.measure.maximise import maximise_activation
from filtersmith.measure.taps import Where, tapped

MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.3, 0.25]


class Small(nn.Module):
    """Batch norms with scales of both signs, activations and a sum in place, a kernel that is called three times."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.bn = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.b = nn.Conv2d(6, 6, 3, padding=1)
        self.fc = nn.Linear(6, 4)
        for values in (self.bn.weight.data, self.bn.bias.data, self.bn.running_mean):
            values.normal_()  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        x = y = F.relu(self.bn(self.a(x)), inplace=True)
        for _ in range(3):
            y = self.b(F.relu(y)) + x
        return self.fc(F.relu_(y).mean((2, 3)))


def activations(model: nn.Module, layer: str, images: Tensor, where: Where = "conv", call: int = 0) -> Tensor:
    """The mean activation of filter n for image n."""
    seen: list[Tensor] = []
    with tapped(model, [layer], where, lambda name, values: seen.append(values.clone())) as run:
        run(images)
    values = seen[call].flatten(2) if seen[call].ndim > 2 else seen[call].unsqueeze(2)
    return torch.stack([values[n, n].mean() for n in range(len(values))])


def smooth(channels: int) -> nn.Conv2d:
    """One window over an image of 12 pixels a side; filters with blobs, the same in each channel."""
    layer = nn.Conv2d(channels, 4, 12)
    layer.weight.data = F.interpolate(torch.randn(4, 1, 3, 3), size=12, mode="bicubic").repeat(1, channels, 1, 1)
    return layer


@pytest.mark.parametrize(
    ("make", "channels", "size", "share"),
    [
        (smooth, 1, 12, 0.93),
        (smooth, 3, 12, 0.93),
        (smooth, 4, 12, 0.93),
        (lambda channels: nn.Conv2d(channels, 4, 3, stride=3), 1, (9, 12), 0.75),
        (lambda channels: nn.Conv2d(channels, 4, 3, stride=3), 3, 12, 0.75),
    ],
)
def test_of_a_linear_layer_most_of_the_optimum_is_reached(make: Any, channels: int, size: Any, share: float) -> None:
    """Where its windows do not overlap, every pixel is best at 1 where its weight is above 0, else at 0."""
    model = nn.Sequential(make(channels))
    mean, std = [*MEAN, 0.1][:channels], [*STD, 0.3][:channels]
    options: dict[str, Any] = {"size": size, "channels": channels, "mean": mean, "std": std}
    found = maximise_activation(model, "0", range(4), jitter=0, total_variation=0, **options)
    got = activations(model, "0", (found - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1))
    for f in range(4):
        lowest = highest = model[0].bias[f].item()
        for c in range(channels):
            for w in model[0].weight[f, c].flatten().tolist():
                black, white = w * (0 - mean[c]) / std[c], w * (1 - mean[c]) / std[c]
                lowest, highest = lowest + min(black, white), highest + max(black, white)
        assert share < (got[f] - lowest) / (highest - lowest) <= 1


@pytest.mark.parametrize(
    ("layer", "where", "call"),
    [
        ("a", "conv", 0),
        ("a", "after-bn", 0),
        ("a", "after-relu", 0),
        ("b", "conv", 0),
        ("b", "conv", 1),
        ("b", "after-relu", 2),
        ("fc", "conv", 0),
    ],
)
def test_the_activation_of_every_filter_grows(layer: str, where: Where, call: int) -> None:
    model = Small()
    filters = range(4 if layer == "fc" else 6)
    options: dict[str, Any] = {"size": 12, "where": where, "call": call, "lr": 0.2}
    start, end = (maximise_activation(model, layer, filters, steps=steps, **options) for steps in (0, 40))
    assert end.shape == (len(filters), 3, 12, 12)
    assert ((end >= 0) & (end <= 1)).all()
    before, after = (activations(model, layer, images, where, call) for images in (start, end))
    off = (before == 0) if where == "after-relu" else torch.zeros(len(filters), dtype=torch.bool)
    assert off.sum() <= 2
    assert (after > before)[~off].all()
    if where != "after-relu":
        assert (after > activations(model, layer, torch.rand(len(filters), 3, 12, 12), where, call)).all()


def test_filters_are_searched_for_each_by_itself_whatever_their_scale() -> None:
    model, options = Small(), {"size": (8, 9), "steps": 12}
    several = maximise_activation(model, "b", torch.tensor([3, 0, 3]), **options)  # type: ignore[arg-type]
    single = maximise_activation(model, "b", 3, **options)  # type: ignore[arg-type]
    assert (single.shape, single.dtype) == ((3, 8, 9), torch.float32)
    torch.testing.assert_close(several[0], single, atol=1e-3, rtol=0)
    torch.testing.assert_close(several[2], single, atol=1e-3, rtol=0)
    assert (several[1] - single).abs().max() > 0.03
    with torch.no_grad():
        model.b.weight[3] *= 2**30
    assert torch.equal(maximise_activation(model, "b", 3, **options), single)  # type: ignore[arg-type]


def test_seed_jitter_and_penalty() -> None:
    model = Small()

    def found(**options: Any) -> Tensor:
        return maximise_activation(model, "b", 1, size=12, **({"steps": 12} | options))

    usual, noise = found(), found(steps=0)
    torch.default_generator.manual_seed(7)  # which is not the one that is drawn from
    assert torch.equal(usual, found(seed=0, jitter=4, total_variation=0.1))
    assert torch.equal(noise, found(steps=0))
    assert not torch.equal(noise, found(steps=0, seed=1))
    for other in ({"seed": 1}, {"jitter": 0}, {"lr": 0.1}, {"steps": 13}, {"call": 1}):
        assert not torch.equal(usual, found(**other)), other
    rough = [float(found(total_variation=tv, steps=60).diff(dim=2).abs().sum()) for tv in (0, 0.1, 1)]
    assert rough[0] > rough[1] > rough[2]
    with torch.no_grad():
        model.b.weight[1] = 0  # nothing pulls
    assert torch.equal(found(total_variation=0), found(steps=0))


def test_shifts_change_nothing_where_the_network_has_no_edges() -> None:
    layers = [nn.Conv2d(3, 6, 3, padding=1, padding_mode="circular"), nn.Softplus()]
    model = nn.Sequential(*layers, nn.Conv2d(6, 2, 3, padding=1, padding_mode="circular"))
    still, shifted = (maximise_activation(model, "2", 1, size=(9, 8), steps=20, jitter=n) for n in (0, 3))
    torch.testing.assert_close(still, shifted, atol=1e-3, rtol=0)


class Normalised(nn.Module):
    """A network that takes images in [0, 1]."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, x: Tensor) -> Tensor:
        return self.inside((x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1))


def test_images_are_normalised_as_the_network_has_them() -> None:
    inside, options = Small(), {"size": 8, "steps": 10}
    expected = maximise_activation(Normalised(inside), "inside.b", 1, **options)  # type: ignore[arg-type]
    found = maximise_activation(inside, "b", 1, mean=MEAN, std=tuple(STD), **options)  # type: ignore[arg-type]
    assert torch.equal(found, expected)


def test_the_rest_of_the_network_does_not_run() -> None:
    model, runs = Small(), []
    model.fc.register_forward_hook(lambda *a: runs.append(1))
    maximise_activation(model, "b", 1, size=12, steps=5)
    assert len(runs) == 1, "to find what comes behind the layer"


def test_the_image_takes_the_type_and_the_layout_of_the_network() -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        model, seen = Small().to(dtype, memory_format=torch.channels_last), []  # type: ignore[call-overload]
        model.register_forward_pre_hook(lambda m, args, seen=seen: seen.append(args[0]))
        found = maximise_activation(model, "b", [0, 1], size=8, steps=2)
        assert found.dtype == torch.float32
        assert found.isfinite().all()
        for images in seen:
            assert images.dtype == dtype
            assert images.is_contiguous(memory_format=torch.channels_last)


def test_the_network_is_left_as_it_was_also_inside_other_contexts() -> None:
    model = nn.Sequential(nn.Dropout(), Small())
    model[1].bn.eval()
    model[1].b.bias.requires_grad_(False)
    for p in model[1].a.parameters():
        p.grad = torch.randn_like(p)
    before = state(model)
    options: dict[str, Any] = {"size": 8, "steps": 4, "mean": MEAN, "std": STD}
    found = maximise_activation(model, "1.b", 2, **options)
    for bad in ({"filter": 9}, {"filter": 2, "call": 3}):
        with pytest.raises(ValueError, match="must be"):
            maximise_activation(model, "1.b", **(options | bad))
    assert_same(state(model), before)
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            assert torch.equal(maximise_activation(model, "1.b", 2, **options), found)
    assert torch.equal(maximise_activation(DataParallel(model), "1.b", 2, **options), found)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(maximise_activation(model, "1.b", 2, **options), found, atol=0.05, rtol=0)
    assert_same(state(model), before)


class Cut(nn.Module):
    """Layers that read no image, one without a gradient, one that is overwritten, and each image twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Conv2d(3, 4, 3) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        y = x.sigmoid()
        z = self.d(y.mul_(2))
        return self.a(torch.zeros_like(x)) + self.b(x.detach()) + self.c(torch.cat([x, x]))[: len(x)] + z


def broken(value: float) -> Small:
    with torch.random.fork_rng(devices=[]):  # made while tests are collected, in any order
        torch.manual_seed(0)
        model = Small()
    model.b.weight.data[1] = value
    return model


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"layer": "B"}, "unknown layer 'B' .did you mean 'b'"),
        ({"filter": 6}, "filter must be below 6, the number of channels of layer 'b', got 6"),
        ({"filter": [0, -1]}, "filter must be a whole number of at least 0, got -1"),
        ({"filter": []}, "filter must be at least one whole number"),
        ({"filter": True}, "filter must be a whole number"),
        ({"filter": 1.5}, "filter must be a sequence of whole numbers, got 1.5"),
        ({"size": 0}, "size must be a whole number of at least 1, got 0"),
        ({"size": (8, 8, 8)}, "size must be a whole number"),
        ({"channels": 0}, "channels must be"),
        ({"channels": 1}, r"Small cannot take images \(1, 1, 8, 8\)"),
        ({"steps": -1}, "steps must be"),
        ({"lr": 0}, "lr must be a number above 0, got 0"),
        ({"jitter": 0.5}, "jitter must be"),
        ({"total_variation": -1}, "total_variation must be a number from 0, got -1"),
        ({"mean": [0.5]}, "mean must be one number for each of the 3 channels, finite, got"),
        ({"std": [1, 0, 1]}, "std must be one number for each of the 3 channels, above 0, got 0"),
        ({"mean": "0.5"}, "mean must be"),
        ({"seed": 0.5}, "seed must be"),
        ({"where": "bn"}, "where must be"),
        ({"call": -1}, "call must be"),
        ({"call": 3}, "call must be below 3, the number of calls of layer 'b', got 3"),
        (
            {"model": broken(float("nan")), "filter": [0, 1]},
            "layer 'b': the activation of filter 1 is nan",
        ),
        (
            {"model": broken(float("inf")), "filter": [0, 1]},
            "layer 'b': the activation of filter 1 is nan",
        ),
        ({"model": broken(float("nan")), "filter": [0, 2]}, "layer 'b': the gradient of filter 0 is nan"),
        ({"model": Cut(), "layer": "a"}, "layer 'a' gives nothing that can be differentiated by the image"),
        ({"model": Cut(), "layer": "b"}, "layer 'b' gives nothing that can be differentiated by the image"),
        ({"model": Cut(), "layer": "d"}, "layer 'd' gives nothing that can be differentiated by the image: one of"),
        ({"model": Cut(), "layer": "c"}, r"the output of layer 'c' must be one for each image, got \(2, 4, 6, 6\)"),
    ],
)
def test_refusals(given: dict[str, Any], message: str) -> None:
    options: dict[str, Any] = {"model": Small(), "layer": "b", "filter": 1, "size": 8, "steps": 1} | given
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        maximise_activation(**options)
    assert "\n" not in str(caught.value)


def test_a_network_of_inference_mode_is_refused_and_left_as_it_was() -> None:
    with torch.inference_mode():
        model = Small()
    trained = [p.requires_grad for p in model.parameters()]
    assert any(trained)
    with pytest.raises(
        ValueError, match=r"^'a.weight' was made in torch.inference_mode, whose tensors .*: make the"
    ) as e:
        maximise_activation(model, "b", 1, size=8, steps=1)
    assert "\n" not in str(e.value)
    assert [p.requires_grad for p in model.parameters()] == trained
    assert model.training


def test_the_example() -> None:
    results = doctest.testmod(maximise)
    assert (results.attempted, results.failed) == (3, 0)
