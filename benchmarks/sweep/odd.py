"""Networks whose channels are easily misread, small and odd: what people write between convolutions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from benchmarks.sweep.subject import Subject

BATCH = 3
IMAGE = (3, 10, 10)
REGISTERED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {}
"""Name -> what makes the network, and the shape of an example."""


def odd(*shape: int) -> Callable[[type[nn.Module]], type[nn.Module]]:
    """A class of networks that is one of the odd ones."""

    def register(cls: type[nn.Module]) -> type[nn.Module]:
        REGISTERED[cls.__name__] = (cls, shape or IMAGE)
        return cls

    return register


def conv(inputs: int, outputs: int, kernel: int = 3, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options)


def block(inputs: int, outputs: int, kernel: int = 3, **options: Any) -> nn.Sequential:
    return nn.Sequential(conv(inputs, outputs, kernel, bias=False, **options), nn.BatchNorm2d(outputs), nn.ReLU())


class Framed(nn.Module):
    """A block, something odd, a convolution and a classifier."""

    between: ClassVar[int] = 8

    def __init__(self) -> None:
        super().__init__()
        self.stem = block(3, 8)
        self.make()
        self.last = conv(self.between, 8)
        self.head = nn.Linear(8, 4)

    def make(self) -> None:
        """What the odd part needs."""

    def odd(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.last(self.odd(self.stem(x))))
        return self.head(x.mean((2, 3)))


# --- functions between two convolutions --------------------------------------------------------------------------


def written(name: str, function: Callable[[Framed, Tensor], Tensor], **modules: Callable[[], Any]) -> None:
    """A network of which the odd part is a function of a network and its channels."""

    def make(self: Framed) -> None:
        for key, module in modules.items():
            setattr(self, key, module())

    odd()(type(name, (Framed,), {"make": make, "odd": function}))


def three() -> nn.Conv2d:
    return conv(8, 8)


written("Expit", lambda s, x: torch.special.expit(s.a(x)), a=three)
written("Threshold", lambda s, x: F.threshold(s.a(x), 0.1, 0.7), a=three)
written("ClampedBelow", lambda s, x: s.a(x).clamp(min=0.2), a=three)
written("Cosine", lambda s, x: torch.cos(s.a(x)), a=three)
written("CosineSummed", lambda s, x: x + torch.cos(s.a(x)), a=three)
written("Exponential", lambda s, x: x + s.a(x).exp(), a=three)
written("Shifted", lambda s, x: x + (s.a(x) + 0.3), a=three)
written("ByItsSpread", lambda s, x: (y := F.relu(s.a(x))) / y.std((2, 3), keepdim=True), a=three)
written("ByItsWholeSpread", lambda s, x: (y := s.a(x) - 0.1) / (y.std() + 1e-3), a=three)
written("ByItsMean", lambda s, x: (y := s.a(x)) - y.mean((1, 2, 3), keepdim=True), a=three)
written("Ranked", lambda s, x: s.a(x).softmax(1), a=three)
written(
    "GroupNormFunction",
    lambda s, x: F.relu(F.group_norm(s.a(x), 2, s.n.weight, s.n.bias)),
    a=three,
    n=lambda: nn.GroupNorm(2, 8),
)
written("GroupNormModule", lambda s, x: F.relu(s.n(s.a(x))), a=three, n=lambda: nn.GroupNorm(2, 8))
written("InstanceNormFunction", lambda s, x: torch.sigmoid(F.instance_norm(s.a(x))), a=three)
written(
    "BatchNormFunction",
    lambda s, x: F.relu(F.batch_norm(s.a(x), None, None, s.n.weight, s.n.bias, True)),
    a=three,
    n=lambda: nn.BatchNorm2d(8),
)
written(
    "LayerNormLast",
    lambda s, x: s.n(s.a(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
    a=three,
    n=lambda: nn.LayerNorm(8),
)
written("LocalResponse", lambda s, x: s.n(s.a(x)), a=three, n=lambda: nn.LocalResponseNorm(3))
written(
    "Attended",
    lambda s, x: (
        (f := s.a(x).flatten(2).transpose(1, 2), s.m(f, f, f)[0])[1].transpose(1, 2).unflatten(2, x.shape[2:])
    ),
    a=three,
    m=lambda: nn.MultiheadAttention(8, 2, batch_first=True),
)
written(
    "Gated",
    lambda s, x: (y := s.a(x)) * s.g(y),
    a=three,
    g=lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 4, 1), nn.ReLU(), nn.Conv2d(4, 8, 1), nn.Sigmoid()),
)
written("Swished", lambda s, x: (y := s.b(s.a(x))) * torch.sigmoid(y), a=three, b=lambda: nn.BatchNorm2d(8))
written("SplitAndGated", lambda s, x: (y := s.a(x).chunk(2, 1))[0] * y[1].sigmoid(), a=lambda: conv(8, 16))
written(
    "Chunks",
    lambda s, x: torch.cat([c(p) for c, p in zip(s.a, x.chunk(2, 1), strict=True)], 1),
    a=lambda: nn.ModuleList([conv(4, 4), conv(4, 4)]),
)
written(
    "Shuffled",
    lambda s, x: s.b(s.a(x).unflatten(1, (2, 4)).transpose(1, 2).flatten(1, 2)),
    a=lambda: conv(8, 8, 1, groups=2),
    b=lambda: nn.Sequential(conv(8, 8, groups=8), nn.BatchNorm2d(8)),
)
written("Grouped", lambda s, x: s.b(s.a(x)), a=lambda: block(8, 8, groups=2), b=lambda: block(8, 8, groups=4))
written(
    "Depthwise",
    lambda s, x: s.b(s.a(x)),
    a=lambda: block(8, 8, groups=8),
    b=lambda: nn.Sequential(conv(8, 8, 1), nn.BatchNorm2d(8), nn.SiLU(), conv(8, 8, groups=8)),
)
written("Rolled", lambda s, x: s.b(torch.roll(s.a(x), 1, 2)), a=three, b=lambda: nn.BatchNorm2d(8))
written("Strided", lambda s, x: s.a(x)[:, :, ::2, ::2], a=three)
written("SomeChannels", lambda s, x: torch.cat([x[:, :4], s.a(x)[:, 4:]], 1), a=three)
written("Scaled", lambda s, x: x + s.g * s.a(x), a=three, g=lambda: nn.Parameter(torch.ones(8, 1, 1)))
written(
    "Einsum",
    lambda s, x: torch.einsum("bchw,dc->bdhw", s.a(x), s.w),
    a=three,
    w=lambda: nn.Parameter(torch.randn(8, 8)),
)
written("Unfolded", lambda s, x: F.fold(F.unfold(s.a(x), 2, stride=2), x.shape[2:], 2, stride=2), a=three)
written("InPlace", lambda s, x: s.b(x).add_(x), b=lambda: nn.Sequential(conv(8, 8), nn.SiLU(inplace=True)))
written(
    "Recomputed", lambda s, x: torch.utils.checkpoint.checkpoint(s.a, x, use_reentrant=False), a=lambda: block(8, 8)
)
written("NormedThenTapped", lambda s, x: s.b(y := s.a(x)) + y, a=three, b=lambda: nn.BatchNorm2d(8))


# --- convolutions that are more -----------------------------------------------------------------------------------


class Standardized(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(self.weight, (1, 2, 3), keepdim=True)
        weight = (self.weight - mean) / (variance + 1e-5).sqrt()
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Doubling(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(super().forward(x), 2)


class Skipping(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return x + F.relu(super().forward(x))


class Normalizing(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return (y - y.mean(1, keepdim=True)) / (y.std(1, keepdim=True) + 1e-3)


class Shifting(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 0.5


def padded(cls: type[nn.Conv2d], outputs: int = 8) -> Callable[[], nn.Conv2d]:
    return lambda: cls(8, outputs, 3, padding=1)


written(
    "WeightStandardized", lambda s, x: F.relu(s.b(F.relu(s.a(x)))), a=padded(Standardized), b=padded(Standardized)
)
written("ConvThatShuffles", lambda s, x: s.b(s.a(x)), a=padded(Doubling, 16), b=lambda: conv(4, 8))
written("ConvThatAdds", lambda s, x: s.a(x), a=padded(Skipping))
written("ConvThatNormalizes", lambda s, x: s.a(x), a=padded(Normalizing))
written("ConvThatShifts", lambda s, x: x + s.a(x), a=padded(Shifting))
written(
    "WeightNorm", lambda s, x: s.b(F.relu(s.a(x))), a=three, b=lambda: nn.utils.parametrizations.weight_norm(three())
)
written("OldWeightNorm", lambda s, x: s.b(F.relu(s.a(x))), a=three, b=lambda: nn.utils.weight_norm(three()))
written(
    "SpectralNorm",
    lambda s, x: s.b(F.relu(s.a(x))),
    a=three,
    b=lambda: nn.utils.parametrizations.spectral_norm(three()),
)
written("OwnWeights", lambda s, x: F.conv2d(x, s.a.weight, padding=1) + s.a(x), a=three)
written("PenaltyInside", lambda s, x: s.a(x) * (1 + s.a.weight.square().mean()), a=three)
written(
    "Transposed",
    lambda s, x: s.b(F.relu(s.a(x))),
    a=lambda: nn.ConvTranspose2d(8, 12, 2, 2),
    b=lambda: nn.ConvTranspose2d(12, 8, 3, 1, 1, groups=2),
)
written("CalledTwice", lambda s, x: s.a(F.relu(s.a(x))), a=three)
written("OneNormForTwo", lambda s, x: s.n(s.a(x)) + s.n(s.b(x)), a=three, b=three, n=lambda: nn.BatchNorm2d(8))


def every(device: str) -> Iterator[Subject]:
    """All of them."""
    from benchmarks.sweep import odd_structures  # it registers more

    assert odd_structures
    for name, (build, shape) in REGISTERED.items():

        def inputs(training: bool, shape: tuple[int, ...] = shape) -> tuple[Tensor]:
            generator = Generator().manual_seed(2 + training)
            return (torch.randn(BATCH, *shape, generator=generator, dtype=torch.float64),)

        yield Subject("own", name, build, inputs, device)
