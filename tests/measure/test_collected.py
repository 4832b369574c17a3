"""Activations of all data, of networks that torch.fx cannot trace as well."""

from __future__ import annotations

import doctest

import pytest
import torch
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


def test_the_examples() -> None:
    assert doctest.testmod(collected).failed == 0
