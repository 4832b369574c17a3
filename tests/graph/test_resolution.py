"""Resolutions read off the graph against the sizes of real images."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from filtersmith import zoo
from filtersmith.graph.resolution import resolutions
from filtersmith.graph.trace import parts


class Everything(nn.Module):
    """Each way to change the size of an image, in two dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(4, 4, 1) for _ in range(24))
        self.strided = nn.Conv2d(4, 4, 3, stride=(2, 1), padding=1)
        self.up = nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.pools = nn.ModuleList([nn.MaxPool2d(2), nn.AvgPool2d((1, 2)), nn.LPPool2d(2, 2)])
        self.halved, self.back = nn.MaxPool2d((1, 2), return_indices=True), nn.MaxUnpool2d((1, 2))
        self.upsample = nn.Upsample(scale_factor=2)
        self.shuffle, self.unshuffle = nn.PixelShuffle(2), nn.PixelUnshuffle(2)
        self.register_buffer("blur", torch.ones(4, 1, 3, 3))
        self.scale = nn.Parameter(torch.ones(4, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = x = self.convs[1](self.strided(self.convs[0](x)))
        x = self.convs[2](self.up(x))
        for conv, pool in zip(self.convs[3:6], self.pools, strict=True):
            x = conv(pool(x))
        x = self.convs[6](self.upsample(x))
        x = self.convs[7](F.max_pool2d(x, 2))
        x = self.convs[8](F.avg_pool2d(x, kernel_size=3, stride=1, padding=1))
        x, places = F.max_pool2d(x, 2, return_indices=True)
        x = self.convs[20](F.max_unpool2d(self.convs[19](x), places, 2))
        x, places = self.halved(x)
        x = self.convs[22](self.back(self.convs[21](x), places))
        x = self.convs[23](F.lp_pool2d(x, 2.0, 2))
        x = self.convs[9](F.interpolate(x, scale_factor=4.0))
        x = self.convs[10](x[:, :, ::2, ::2])
        x = self.convs[11](self.shuffle(self.unshuffle(x)))
        x = self.convs[12](F.conv2d(x, self.blur, stride=2, padding=1, groups=4))
        x = self.convs[13](F.conv_transpose2d(x, self.blur, stride=(2, 2), padding=1, output_padding=1, groups=4))
        x = self.convs[14](x[..., ::2, ::4] * self.scale)
        x = self.convs[15](F.interpolate(x, size=first.shape[-2:], mode="bilinear") + first)
        x = x + self.convs[16](torch.mean(x, (2, 3), keepdim=True)).sigmoid()
        x = x * self.convs[17](x + x.mean(1, keepdim=True))
        return self.convs[18](F.adaptive_avg_pool2d(x, (6, 3)))


@pytest.mark.parametrize("name", ["everything", "resnet20", "vgg16-kflo", "alexnet", "torchvision:resnet18"])
def test_resolutions_are_those_of_real_images(name: str) -> None:
    model = Everything() if name == "everything" else zoo.build(name)
    size = 32 if name == "alexnet" else 64  # alexnet's linear layer is made for one size
    shapes: dict[nn.Module, tuple[int, ...]] = {}
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            module.register_forward_hook(lambda module, _, out: shapes.update({module: tuple(out.shape[2:])}))
    with torch.no_grad():
        model.eval()(torch.zeros(1, 4 if name == "everything" else 3, size, size))
    (part,) = parts(model, training=False)
    found = resolutions(part)
    seen = 0
    for node in part.graph.nodes:
        if node.op == "call_module" and (shape := shapes.get(part.called(node))):
            resolution = found[node]
            assert resolution is not None
            before = (size, size) if resolution.fixed is None else resolution.fixed
            assert tuple(n / factor for n, factor in zip(before, resolution.factors, strict=True)) == shape, node
            seen += 1
    assert seen == len(shapes) > 4


def halved(x: torch.Tensor) -> torch.Tensor:
    return x[:, :, ::2, 1::2] + x[:, :, 1::2, ::2]


def untold(x: torch.Tensor, side: int) -> torch.Tensor:
    return F.interpolate(x, size=(side // 2, side // 2))


fx.wrap("halved")
fx.wrap("untold")


@pytest.mark.parametrize(
    ("function", "factors"),
    [
        (halved, (2, 2)),
        (lambda x: x.repeat(1, 1, 2, 1), (Fraction(1, 2), 1)),
        (lambda x: torch.special.expit(x).flip(2), (1, 1)),
        (lambda x: x.view(-1, 1, 1, x.shape[2], x.shape[3]).transpose(1, 2).flatten(1, 2), (1, 1)),
    ],
)
def test_what_is_not_known_is_tried(function: Callable[[torch.Tensor], torch.Tensor], factors: Any) -> None:
    (part,) = parts(By(function), training=False)
    found = resolutions(part)
    (resolution,) = (found[node] for node in part.graph.nodes if node.target == "conv")
    assert resolution is not None
    assert resolution.factors == factors


class By(nn.Module):
    """A convolution behind a function of two numbers that are computed from the image."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function, self.conv, self.last = function, nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(x + self.conv(self.function(x)))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.interpolate(x, size=(x.shape[2] // 2, x.shape[3] // 2)),
        lambda x: F.interpolate(x, scale_factor=x.shape[2] / 8),
        lambda x: x.mean(2, keepdim=True),
        lambda x: x.repeat_interleave(2, 2).repeat_interleave(2, 3),
        lambda x: F.fractional_max_pool2d(x, 2, output_ratio=0.5),
        nn.Sequential(nn.Unfold(2, stride=2), nn.Unflatten(2, (2, 2))),
        lambda x: x.view(x.shape[0], -1, x.shape[2] // 2, x.shape[3] // 2)[:, :1],
        lambda x: x.index_select(2, torch.tensor([0, 2])),
        lambda x: untold(x, x.shape[2]),
    ],
)
def test_what_cannot_be_told_is_unknown(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    (part,) = parts(By(function), training=False)
    found = resolutions(part)
    modules = {str(node.target): found[node] for node in part.graph.nodes if node.op == "call_module"}
    assert modules["conv"] is None
    assert modules["last"] is not None
    assert modules["last"].factors == (Fraction(1), Fraction(1)), "what it is added to is known"


@pytest.mark.parametrize("dims", [1, 3])
def test_one_and_three_dimensions(dims: int) -> None:
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
    model = nn.Sequential(conv(1, 1, 3, stride=2, padding=1), nn.Upsample(scale_factor=2), conv(1, 1, 1))
    (part,) = parts(model, training=False)
    steps = [resolution.factors for resolution in resolutions(part).values() if resolution is not None]
    assert [step for step in steps[1:4]] == [(2,) * dims, (1,) * dims, (1,) * dims]
