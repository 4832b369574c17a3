"""Activations of all data, of networks that torch.fx cannot trace as well."""

from __future__ import annotations

import doctest
import re
import warnings

import pytest
import torch
from reference.nets import assert_same
from reference.unchanged import state
from torch import Tensor, nn
from torch.nn import functional as F

from filtersmith import zoo
from filtersmith.measure import collected
from filtersmith.measure.collected import activations


@torch.no_grad()
def test_all_batches_of_all_layers_in_their_order() -> None:
    model, images = zoo.build("resnet8", 10, 3, image_size=16).half().float(), torch.randn(7, 3, 16, 16)
    found = activations(model, None, [images[:4], (images[4:], torch.arange(3))])
    assert all(len(one) == 7 and one.ndim == 3 for one in found.values())
    whole = activations(model, ["conv1"], images)["conv1"]
    torch.testing.assert_close(found["conv1"], whole)
    torch.testing.assert_close(whole, model.eval().bn1(model.conv1(images)).flatten(2))
    small = activations(model, ["conv1"], images, pool=4)["conv1"]
    torch.testing.assert_close(small, F.adaptive_avg_pool2d(whole.unflatten(2, (16, 16)), 4).flatten(2))
    assert list(activations(model, ["fc", "conv1"], images)) == ["fc", "conv1"]
    assert activations(model, ["fc"], images)["fc"].shape == (7, 10)


def test_positions_of_several_calls_stand_one_behind_another() -> None:
    conv = nn.Conv2d(3, 3, 2)
    images = torch.randn(2, 3, 4, 4)
    found = activations(nn.Sequential(conv, conv), ["0"], images, "conv")["0"]
    first = conv(images)
    torch.testing.assert_close(found, torch.cat([first.flatten(2), conv(first).flatten(2)], 2))


def test_half_precision_comes_as_single_and_double_stays() -> None:
    model, images = nn.Sequential(nn.Conv2d(3, 2, 1)), torch.randn(2, 3, 4, 4)
    for dtype, wanted in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        found: Tensor = activations(model.to(dtype), None, images.to(dtype))["0"]
        assert found.dtype == wanted


def test_what_does_not_fit_is_refused_in_one_line() -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 1))
    sizes = [torch.randn(2, 3, 4, 4), torch.randn(2, 3, 5, 4)]
    with pytest.raises(ValueError, match=r"layer '0' gives maps of several sizes, \(2, 16\) and \(2, 20\)"):
        activations(model, None, sizes)
    assert activations(model, None, sizes, pool=1)["0"].shape == (4, 2, 1)
    with pytest.raises(ValueError, match="pool must be a whole number of at least 1, got 0"):
        activations(model, None, sizes, pool=0)


class Halves(nn.Module):
    """Its convolutions see the images in two calls, in patches, and by another function."""

    def __init__(self) -> None:
        super().__init__()
        self.split, self.folded, self.used = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.split(x[: len(x) // 2]), self.split(x[len(x) // 2 :])])
        x = self.folded(x.unflatten(2, (2, 2)).transpose(1, 2).flatten(0, 1))
        return F.conv2d(x, self.used.weight)


@pytest.mark.parametrize("count", [5, 6])
def test_calls_that_do_not_see_each_whole_image_are_refused(count: int) -> None:
    model, images = Halves(), torch.randn(count, 3, 4, 4)
    for layers, layer, shape in (
        (["split"], "split", (count // 2, 4, 4, 4)),
        (["folded"], "folded", (2 * count, 4, 2, 4)),
        (None, "split", (count // 2, 4, 4, 4)),
    ):
        said = (
            f"layer {layer!r} gives {shape} in one call for {count} images, and not one for each: leave it out with"
        )
        with pytest.raises(ValueError, match=f"^{re.escape(said)} layers=$"):
            activations(model, layers, [images])


class Unused(nn.Module):
    """Beside a convolution that it calls, some whose weights alone are used, or nothing."""

    def __init__(self, called: bool) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.called = called

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x) if self.called else F.conv2d(x, self.a.weight)
        return F.conv2d(x, self.b.weight)


def test_layers_without_a_call_are_named() -> None:
    model, images = Unused(True), torch.randn(4, 3, 4, 4)
    said = "^layers 'b', 'c': not called as a module on these images, and left out$"
    with pytest.warns(UserWarning, match=said) as caught:
        found = activations(model, None, [images, images])
    assert list(found) == ["a"]
    assert [one.filename for one in caught] == [__file__], "once, at the line that asked"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        activations(model, ["a"], [images])
    with pytest.raises(ValueError, match="layer 'b' is not called"):
        activations(model, ["b"], [images])
    with pytest.raises(
        ValueError, match=r"^no convolution is called as a module: name the layers that are meant with la"
    ):
        activations(Unused(False), None, [images])


def test_the_dimension_of_channels_is_known_or_given() -> None:
    class Block(nn.Sequential):
        """With another class, so that nothing is known of it."""

    model = nn.Sequential(Block(nn.Linear(3, 5), nn.LayerNorm(5)), nn.GELU(), nn.LayerNorm(5), nn.Linear(5, 2))
    tokens = torch.randn(6, 7, 3)
    expected = model[0](tokens).transpose(1, 2)
    with pytest.raises(
        ValueError, match=r"^layer '0' gives \(2, 7, 5\), and which dimension has the channels cannot"
    ):
        activations(model, ["0"], tokens)
    torch.testing.assert_close(activations(model, ["0", "0.0"], tokens, channel_axis=-1)["0"], expected)
    torch.testing.assert_close(activations(model, ["0"], tokens, channel_axis=1)["0"], expected.transpose(1, 2))
    known = activations(model, ["2", "3"], tokens)
    assert {name: one.shape[1] for name, one in known.items()} == {"2": 5, "3": 2}
    for bad in (0, 3, -3):
        with pytest.raises(ValueError, match=r"^channel_axis must be a dimension of"):
            activations(model, ["0"], tokens, channel_axis=bad)
    for bad in (1.0, True, "1"):
        with pytest.raises(ValueError, match=r"^channel_axis must be None or a whole number, got"):
            activations(model, ["0"], tokens, channel_axis=bad)  # type: ignore[arg-type]
    plain, images = nn.Sequential(nn.Conv2d(3, 5, 1), Block(nn.ReLU())), torch.randn(2, 3, 4, 4)
    assert activations(plain, ["1"], images)["1"].shape == (2, 5, 16)


def test_lazy_networks_are_refused_and_still_work() -> None:
    model, images = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU()), torch.randn(2, 3, 6, 6)
    with pytest.raises(ValueError, match=r"^layer '0' cannot be measured: it is lazy and has no shape yet"):
        activations(model, None, [images])
    model(images)
    assert activations(model, None, [images])["0"].shape == (2, 4, 16)


def test_half_precision_takes_single_images_and_scripted_networks_are_refused() -> None:
    model, images = nn.Sequential(nn.Conv2d(3, 2, 1)), torch.randn(2, 3, 4, 4)
    expected = activations(model, None, [images])["0"]
    torch.testing.assert_close(activations(model.bfloat16(), None, [images])["0"], expected, atol=0.05, rtol=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(model)
    for layers in (None, ["0"]):
        with pytest.raises(ValueError, match="give the network as it was"):
            activations(scripted, layers, [images])


def test_the_network_is_left_as_it_was() -> None:
    model, images = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.ReLU()), torch.randn(2, 3, 4, 4)
    before = state(model)
    activations(model, None, [images], "after-relu")
    assert_same(state(model), before)


def test_the_examples() -> None:
    assert doctest.testmod(collected).failed == 0
