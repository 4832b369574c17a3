"""Reductions read off the graph against the sizes of real images."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from filtersmith import zoo
from filtersmith.graph import parts
from filtersmith.resolution import FIXED, reductions


class Everything(nn.Module):
    """Each way to change the size of an image, in two dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(4, 4, 1) for _ in range(13))
        self.strided = nn.Conv2d(4, 4, 3, stride=(2, 1), padding=1)
        self.up = nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.pools = nn.ModuleList([nn.MaxPool2d(2), nn.AvgPool2d((1, 2)), nn.LPPool2d(2, 2)])
        self.upsample = nn.Upsample(scale_factor=2)
        self.shuffle, self.unshuffle = nn.PixelShuffle(2), nn.PixelUnshuffle(2)
        self.gate = nn.Conv2d(4, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.convs[1](self.strided(self.convs[0](x)))
        x = self.convs[2](self.up(x))
        for conv, pool in zip(self.convs[3:6], self.pools, strict=True):
            x = conv(pool(x))
        x = self.convs[6](self.upsample(x))
        x = self.convs[7](F.max_pool2d(x, 2))
        x = self.convs[8](F.avg_pool2d(x, kernel_size=3, stride=1, padding=1))
        x = self.convs[9](F.interpolate(x, scale_factor=4.0))
        x = self.convs[10](x[:, :, ::2, ::2])
        x = self.convs[11](self.shuffle(self.unshuffle(x)))
        x = x * self.gate(F.adaptive_avg_pool2d(x, 1)).sigmoid()
        return self.convs[12](x)


@pytest.mark.parametrize("name", ["everything", "resnet20", "vgg16-kflo", "alexnet", "torchvision:resnet18"])
def test_reductions_are_those_of_real_images(name: str) -> None:
    model = Everything() if name == "everything" else zoo.build(name)
    size = 64
    shapes: dict[nn.Module, tuple[int, ...]] = {}
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            module.register_forward_hook(lambda module, _, out: shapes.update({module: out.shape}))
    channels = 4 if name == "everything" else 3
    if name == "alexnet":  # its linear layer is made for one size
        size = 32
    with torch.no_grad():
        model.eval()(torch.zeros(1, channels, size, size))
    (part,) = parts(model, training=False)
    found = reductions(part)
    seen = 0
    for node in part.graph.nodes:
        if node.op == "call_module" and (shape := shapes.get(part.called(node))):
            if part.called(node) is getattr(model, "gate", None):
                assert found[node] == FIXED
            else:
                assert found[node] == size**2 / math.prod(shape[2:]), node
            seen += 1
    assert seen == len(shapes) > 4
