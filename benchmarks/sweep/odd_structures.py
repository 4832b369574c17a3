"""Odd networks as a whole: containers, branches, code that cannot be traced, and hooks."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.sweep.odd import IMAGE, block, conv, odd


@odd(4, 3, 10, 10)
class LateFusion(nn.Module):
    """Frames are folded into the batch, and their features gathered for the classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(block(3, 8), block(8, 8))
        self.head = nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.features(x.flatten(0, 1)).mean((2, 3))
        return self.head(y.view(x.shape[0], -1))


@odd()
class PlainList(nn.Module):
    """Layers are called from a list that torch does not know of."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 8), conv(8, 8), conv(8, 4)
        self.layers_in_order = [self.a, nn.ReLU(), self.b, nn.ReLU(), self.c]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers_in_order:
            x = layer(x)
        return x


@odd()
class Hooked(nn.Module):
    """Hooks change what layers give and get."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 8), conv(8, 8), conv(8, 4)
        self.a.register_forward_hook(lambda module, given, y: y.clamp(max=0.2) + 0.1)
        self.c.register_forward_pre_hook(lambda module, given: (given[0].exp(),))

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(F.relu(self.a(x))))


@odd()
class Tied(nn.Module):
    """Two layers have one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b, self.last = block(3, 8), conv(8, 8), conv(8, 8), conv(8, 4)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.b(F.relu(self.a(self.stem(x))))))


@odd()
class Branches(nn.Module):
    """Branches of several kinds, joined."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = block(3, 8)
        branches = {"one": block(8, 4, 1), "three": block(8, 4), "two": nn.Sequential(block(8, 4), block(4, 4))}
        self.branches = nn.ModuleDict(branches)
        self.norm = nn.BatchNorm2d(20)
        self.last = conv(20, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        parts = [branch(x) for branch in self.branches.values()]
        return self.last(F.relu(self.norm(torch.cat([*parts, F.max_pool2d(x, 3, 1, 1)], 1))))


@odd()
class Dense(nn.Module):
    """Each layer reads all before it, behind a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8)
        self.norms = nn.ModuleList(nn.BatchNorm2d(8 + 4 * n) for n in range(4))
        self.layers = nn.ModuleList(conv(8 + 4 * n, 4) for n in range(3))
        self.head = nn.Linear(20, 3)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.stem(x)]
        for norm, layer in zip(self.norms, self.layers, strict=False):
            parts.append(layer(F.relu(norm(torch.cat(parts, 1)))))
        return self.head(F.relu(self.norms[-1](torch.cat(parts, 1))).mean((2, 3)))


@odd()
class Residual(nn.Module):
    """Blocks in containers in containers, a shortcut of its own, pre-activation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8)
        inner = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(), conv(8, 12, bias=False), nn.BatchNorm2d(12), nn.ReLU())
        self.body = nn.ModuleDict(
            {"main": nn.ModuleList([nn.Sequential(inner, conv(12, 12))]), "side": conv(8, 12, 1)}
        )
        self.norm, self.last = nn.BatchNorm2d(12), conv(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.body["main"][0](x) + self.body["side"](x)
        return self.last(F.relu(self.norm(x)))


@odd(2, 30)
class OneDimension(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.n, self.b = nn.Conv1d(2, 8, 5, padding=2), nn.BatchNorm1d(8), nn.Conv1d(8, 12, 3, stride=2)
        self.up, self.head = nn.ConvTranspose1d(12, 6, 2, 2), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.b(F.relu(self.n(self.a(x)))))
        return self.head(self.up(x).amax(2))


@odd(2, 5, 8, 8)
class ThreeDimensions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.n = nn.Conv3d(2, 8, 3, padding=1, bias=False), nn.BatchNorm3d(8)
        self.depthwise, self.b = nn.Conv3d(8, 8, 3, padding=1, groups=8), nn.Conv3d(8, 6, (1, 3, 3))
        self.pool, self.head = nn.AdaptiveMaxPool3d(2), nn.Linear(48, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(F.leaky_relu(self.depthwise(F.relu(self.n(self.a(x))))))
        return self.head(self.pool(x).flatten(1))


@odd()
class DependsOnData(nn.Module):
    """What is called depends on what comes in."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.last = block(3, 8), nn.Sequential(conv(8, 8), nn.ReLU(), conv(8, 8)), conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        if x.mean() > -1:
            x = self.b(x)
        return self.last(x)


@odd()
class Tapped(nn.Module):
    """A loop over a container, whose inside is read half-way, by code that cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 8), nn.ReLU(), conv(8, 8))
        self.last = conv(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        assert bool((x == x).all())
        seen = []
        for layer in self.body:
            x = layer(x)
            seen.append(x)
        return self.last(torch.cat([seen[1], x], 1)) + seen[3].mean()


@odd()
class WithFeatures(nn.Module):
    """A default argument says what comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Sequential(block(3, 8), block(8, 8), conv(8, 8)), nn.Linear(8, 3)

    def forward(self, x: Tensor, features: bool = False, mask: Tensor | None = None) -> Any:
        y = self.body(x)
        if mask is not None:
            y = y * mask
        out = self.head(F.relu(y).mean((2, 3)))
        return (out, y) if features else out


@odd()
class ListOfScales(nn.Module):
    """Blocks that give lists of tensors, and one that goes through the batch example by example."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down = block(3, 8), nn.ModuleList([block(8, 8), block(8, 8)])
        self.sides, self.last = nn.ModuleList(conv(8, 6, 1) for _ in range(3)), conv(6, 3)

    def forward(self, x: Tensor) -> list[Tensor]:
        scales = [self.stem(x)]
        for down in self.down:
            scales.append(down(F.avg_pool2d(scales[-1], 2)))
        tops = [side(scale) for side, scale in zip(self.sides, scales, strict=True)]
        joined = tops[0] + F.interpolate(tops[1], tops[0].shape[2:]) + F.interpolate(tops[2], tops[0].shape[2:])
        return [torch.cat([self.last(one[None]) for one in joined]), tops[2]]


@odd()
class Scripted(nn.Module):
    """One part is compiled."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.last = block(3, 8), block(8, 8), conv(8, 4)
        self.middle = torch.jit.script(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.Softplus()))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.b(self.middle(self.a(x))))


@odd()
class Frozen(nn.Module):
    """A trained part stays as it is, with a buffer that overlaps itself."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.last = block(3, 8), block(8, 8), conv(8, 4)
        self.a.requires_grad_(False)
        self.last.requires_grad_(False)
        self.register_buffer("anchors", torch.arange(4.0).view(1, 4, 1, 1).expand(2, 4, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.b(self.a(x))) + self.anchors[:1, :, :1, :1]


@odd()
class ClassifierBehindNorm(nn.Module):
    """Features behind a norm of one dimension, of a flattened map and of a pooled one."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = block(3, 8), conv(8, 6)
        self.head = nn.Sequential(nn.BatchNorm1d(6), nn.Sigmoid(), nn.Linear(6, 3))
        self.wide = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.BatchNorm1d(6 * 100), nn.Linear(600, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.b(self.a(x)))
        return self.head(x.mean((2, 3))) + self.wide(x)


class Straight(torch.autograd.Function):
    """Rounds; the gradient passes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return (x * 4).round() / 4 + 0.25

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient


@odd()
class ChannelsLast(nn.Module):
    """Linear layers as 1x1 convolutions of images whose channels stand last; what stands between some is odd."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depthwise, self.norm = conv(3, 8), conv(8, 8, groups=8), nn.LayerNorm(8)
        self.wide, self.narrow = nn.Linear(8, 12), nn.Linear(12, 8)
        self.activation, self.scale = nn.Sequential(nn.Softplus(), nn.Dropout(0.1)), nn.Parameter(torch.rand(8))
        self.gated, self.out = nn.Linear(8, 12), nn.Linear(12, 8)
        self.normed, self.over, self.back = nn.Linear(8, 12), nn.LayerNorm(12), nn.Linear(12, 8)
        self.last, self.head = conv(8, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.narrow(self.activation(self.wide(y))) * self.scale
        x = x + y.permute(0, 3, 1, 2)
        y = self.gated(x.permute(0, 2, 3, 1))
        y = self.out(y * y.mean((1, 2), keepdim=True).sigmoid()) + self.back(
            self.over(F.gelu(self.normed(y[..., :8])))
        )
        return self.head(F.relu(self.last(y.permute(0, 3, 1, 2))).mean((2, 3)))


@odd()
class OwnGradient(nn.Module):
    """A function with a gradient of its own, which makes something of zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.last = block(3, 8), conv(8, 8), conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(Straight.apply(self.b(self.a(x))))


if importlib.util.find_spec("einops") is not None:
    from einops import rearrange, reduce
    from einops.layers.torch import Rearrange

    @odd(*IMAGE)
    class Einops(nn.Module):
        """Its functions and its layers."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = block(3, 8), block(32, 8), block(8, 8)
            self.fold = Rearrange("b c (h y) (w x) -> b (c y x) h w", y=2, x=2)
            self.head = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.b(self.fold(self.a(x)))
            x = rearrange(self.c(x), "b c h w -> b c w h")
            return self.head(reduce(x, "b c h w -> b c", "mean"))
