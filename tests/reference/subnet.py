"""Sub-networks the slow way: a copy of the network in which all that belongs to filters left out is set to 0.

What belongs to them is written down by hand for each architecture: `Net.belongs` names, for one filter of one layer,
the entries of parameters and running statistics. A filter that is 0 adds nothing to the statistics of others, so that
outputs, gradients and statistics of what stays are those of the smaller network, in training as in evaluation.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Entry = tuple[str, tuple[Any, ...]]
"""Name of a parameter or buffer, and an index into it."""

ALL = slice(None)


def conv_of(dims: int) -> Any:
    return (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]


def norm_of(dims: int) -> Any:
    return (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[dims - 1]


class OwnNorm2d(nn.BatchNorm2d):
    """A user's own batch norm."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


class OwnConv2d(nn.Conv2d):
    """A user's own convolution."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 1.5


class Net(nn.Module):
    """Images of ``channels`` and 6 pixels a side (``dims`` of them); ``layers`` name the layers that lose filters."""

    layers: ClassVar[Mapping[str, int]]
    dims = 2
    channels = 2

    def belongs(self, layer: str, f: int) -> Iterator[Entry]:
        raise NotImplementedError

    def images(self, batch: int, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(batch, self.channels, *[6] * self.dims, generator=generator, dtype=torch.float64)


def norm(name: str, *channels: int) -> Iterator[Entry]:
    for kind in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{kind}", (list(channels),)


def filter_of(name: str, f: int) -> Iterator[Entry]:
    yield f"{name}.weight", (f,)
    yield f"{name}.bias", (f,)


def column(name: str, *channels: int) -> Iterator[Entry]:
    yield f"{name}.weight", (ALL, list(channels))


class Plain(Net):
    """Two convolutions and two linear layers behind a flattening."""

    layers: ClassVar[Mapping[str, int]] = {"a": 4, "b": 3}

    def __init__(
        self, dims: int = 2, conv: Any = None, bn: Any = None, pad: str = "zeros", **norm_options: Any
    ) -> None:
        super().__init__()
        self.dims = dims
        conv, bn = conv or conv_of(dims), bn or norm_of(dims)
        self.a, self.bn1 = conv(2, 4, 3, stride=2, padding=1, padding_mode=pad), bn(4, **norm_options)
        self.b, self.bn2 = conv(4, 3, *((3, 1, "same") if pad == "zeros" else (2, 1, 1))), bn(3, **norm_options)
        side = 3 if pad == "zeros" else 4
        self.features = side**dims
        self.fc1, self.fc2 = nn.Linear(3 * side**dims, 5), nn.Linear(5, 2)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.a(x)))
        x = F.dropout(F.relu(self.bn2(self.b(x))), 0.0, self.training)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))  # type: ignore[no-any-return]

    def belongs(self, layer: str, f: int) -> Iterator[Entry]:
        yield from filter_of(layer, f)
        if layer == "a":
            yield from norm("bn1", f)
            yield from column("b", f)
        else:
            yield from norm("bn2", f)
            yield "fc1.weight", (ALL, slice(f * self.features, (f + 1) * self.features))


class Kinds(Net):
    """Depthwise with two filters a channel, grouped, transposed grouped, depthwise transposed, transposed."""

    layers: ClassVar[Mapping[str, int]] = {"a": 4, "g": 6, "t": 4, "d": 3}

    def __init__(self) -> None:
        super().__init__()
        self.a, self.bn1 = nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.dw, self.bn2 = nn.Conv2d(4, 8, 3, groups=4), nn.BatchNorm2d(8)
        self.g, self.bn3 = nn.Conv2d(8, 6, 1, groups=2), nn.BatchNorm2d(6)
        self.t = nn.ConvTranspose2d(6, 4, 2, groups=2, stride=2)
        self.dt = nn.ConvTranspose2d(4, 4, 2, groups=4)
        self.d = nn.ConvTranspose2d(4, 3, 2, padding=1, output_padding=0)
        self.act, self.fc = nn.ReLU6(), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.bn2(self.dw(self.act(self.bn1(self.a(x))))))
        x = F.leaky_relu(self.bn3(self.g(x)))
        x = self.d(F.silu(self.dt(F.relu(self.t(x)))))
        return self.fc(F.adaptive_avg_pool2d(x.tanh(), 1).flatten(1))  # type: ignore[no-any-return]

    def belongs(self, layer: str, f: int) -> Iterator[Entry]:
        if layer == "a":
            yield "a.weight", (f,)
            yield from norm("bn1", f)
            for c in (2 * f, 2 * f + 1):
                yield from filter_of("dw", c)
                yield from norm("bn2", c)
                group, place = divmod(c, 4)  # the filters of a group read 4 of the 8 channels
                yield "g.weight", (slice(3 * group, 3 * group + 3), place)
        elif layer == "g":
            yield from filter_of("g", f)
            yield from norm("bn3", f)
            yield "t.weight", (f,)
        elif layer == "t":
            group, place = divmod(f, 2)  # two filters in each of two groups, of three channels each
            yield "t.weight", (slice(3 * group, 3 * group + 3), place)
            yield "t.bias", (f,)
            yield from filter_of("dt", f)
            yield "d.weight", (f,)
        else:
            yield "d.weight", (ALL, f)
            yield "d.bias", (f,)
            yield from column("fc", f)


class Residual(Net):
    layers: ClassVar[Mapping[str, int]] = {"stem": 4, "conv1": 5, "conv2": 4}

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv1, self.bn1 = nn.Conv2d(4, 5, 3, padding=1), nn.BatchNorm2d(5)
        self.conv2, self.bn2 = nn.Conv2d(5, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.stem(x)), inplace=True)
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        out += x
        return self.fc(F.relu(out).mean((2, 3)))  # type: ignore[no-any-return]

    def belongs(self, layer: str, f: int) -> Iterator[Entry]:
        yield from filter_of(layer, f)
        yield from norm({"stem": "bn", "conv1": "bn1", "conv2": "bn2"}[layer], f)
        if layer == "stem":
            yield from column("conv1", f)
        elif layer == "conv1":
            yield from column("conv2", f)


class PreActivated(Net):
    layers: ClassVar[Mapping[str, int]] = {"stem": 4, "conv1": 5, "conv2": 4}

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn1 = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv1, self.bn2 = nn.Conv2d(4, 5, 3, padding=1), nn.BatchNorm2d(5)
        self.conv2, self.bn3 = nn.Conv2d(5, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.conv2(F.relu(self.bn2(self.conv1(F.relu(self.bn1(x))))))
        return self.fc(F.relu(self.bn3(x)).mean((2, 3)))  # type: ignore[no-any-return]

    def belongs(self, layer: str, f: int) -> Iterator[Entry]:
        yield from filter_of(layer, f)
        if layer == "stem":
            yield from norm("bn1", f)
            yield from column("conv1", f)
        elif layer == "conv1":
            yield from norm("bn2", f)
            yield from column("conv2", f)


class Dense(Net):
    layers: ClassVar[Mapping[str, int]] = {"stem": 4, "one": 5, "add1": 3, "two": 4, "add2": 3, "transition": 4}

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.bn1, self.one = nn.BatchNorm2d(4), nn.Conv2d(4, 5, 1)
        self.bn2, self.add1 = nn.BatchNorm2d(5), nn.Conv2d(5, 3, 3, padding=1)
        self.bn3, self.two = nn.BatchNorm2d(7), nn.Conv2d(7, 4, 1)
        self.bn4, self.add2 = nn.BatchNorm2d(4), nn.Conv2d(4, 3, 3, padding=1)
        self.bn5, self.transition = nn.BatchNorm2d(10), nn.Conv2d(10, 4, 1)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.cat([x, self.add1(F.relu(self.bn2(self.one(F.relu(self.bn1(x))))))], 1)
        x = torch.cat([x, self.add2(F.relu(self.bn4(self.two(F.relu(self.bn3(x))))))], dim=1)
        x = F.avg_pool2d(self.transition(F.relu(self.bn5(x))), 2)
        return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]

    def belongs(self, layer: str, f: int) -> Iterator[Entry]:
        yield from filter_of(layer, f)
        if layer in ("one", "two"):
            yield from norm({"one": "bn2", "two": "bn4"}[layer], f)
            yield from column({"one": "add1", "two": "add2"}[layer], f)
        elif layer == "transition":
            yield from column("fc", f)
        else:
            place = {"stem": 0, "add1": 4, "add2": 7}[layer] + f
            readers = {"bn1": "one", "bn3": "two", "bn5": "transition"}
            start = {"stem": 0, "add1": 1, "add2": 2}[layer]
            for bn, conv in list(readers.items())[start:]:
                yield from norm(bn, place)
                yield from column(conv, place)


class NeedsAll(Net):
    """Code that needs every channel: sizes written down, a permutation, a parameter."""

    layers: ClassVar[Mapping[str, int]] = {"a": 4, "b": 3}

    def __init__(self) -> None:
        super().__init__()
        self.a, self.bn1 = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)
        self.bn2, self.b, self.c = nn.BatchNorm2d(4), nn.Conv2d(4, 3, 1), nn.Conv2d(3, 4, 1)
        self.scale = nn.Parameter(torch.rand(1, 3, 1, 1))
        self.fc = nn.Linear(64, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.a(x)))
        x = self.bn2(F.adaptive_avg_pool2d(x, x.size(1)))  # four pixels
        x = self.b(x) * self.scale
        x = torch.cat(self.c(x).chunk(2, 1)[::-1], 1)
        return self.fc(F.relu(x).view(-1, 64))  # type: ignore[no-any-return]

    def belongs(self, layer: str, f: int) -> Iterator[Entry]:
        yield from filter_of(layer, f)
        if layer == "a":
            yield from norm("bn1", f)
            yield from norm("bn2", f)
            yield from column("b", f)
        else:
            yield from column("c", f)


class Rows(Net):
    """Other norms and activations with parameters of each channel."""

    layers: ClassVar[Mapping[str, int]] = {"a": 4, "b": 4}

    def __init__(self) -> None:
        super().__init__()
        self.a, self.gn, self.prelu = nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.PReLU(4)
        self.b, self.inorm = nn.Conv2d(4, 4, 2), nn.InstanceNorm2d(4, affine=True, track_running_stats=True)
        self.c, self.fc = nn.Conv2d(4, 3, 1), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.prelu(self.gn(self.a(x)))
        return self.fc(self.c(F.elu(self.inorm(self.b(x)))).mean((2, 3)).tanh())  # type: ignore[no-any-return]

    def belongs(self, layer: str, f: int) -> Iterator[Entry]:
        yield from filter_of(layer, f)
        if layer == "a":
            yield "gn.weight", (f,)
            yield "gn.bias", (f,)
            yield "prelu.weight", (f,)
            yield from column("b", f)
        else:
            yield from norm("inorm", f)
            yield from column("c", f)


class Parts(Net):
    """Channels are taken apart, some are read alone, some by a depthwise convolution, and joined in another order."""

    layers: ClassVar[Mapping[str, int]] = {"a": 5}

    def __init__(self) -> None:
        super().__init__()
        self.a, self.bn1 = nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5)
        self.dw = nn.Conv2d(2, 4, 3, padding=1, groups=2)
        self.bn2, self.b, self.c = nn.BatchNorm2d(7), nn.Conv2d(7, 3, 1), nn.Conv2d(3, 3, 1)
        self.fc = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.a(x)))
        one, two = x.split([2, 3], 1)
        joined = self.bn2(torch.cat([two, self.dw(one)], 1))
        return self.fc((self.b(F.relu(joined)) + self.c(x[:, 1:4])).mean((2, 3)))  # type: ignore[no-any-return]

    def belongs(self, layer: str, f: int) -> Iterator[Entry]:
        yield from filter_of("a", f)
        yield from norm("bn1", f)
        places = [f - 2] if f > 1 else [3 + 2 * f, 4 + 2 * f]
        yield from norm("bn2", *places)
        yield from column("b", *places)
        if f < 2:
            for c in (2 * f, 2 * f + 1):
                yield from filter_of("dw", c)
        if 1 <= f < 4:
            yield from column("c", f - 1)


class ChannelsLast(Net):
    """Linear layers as 1x1 convolutions of images whose channels stand last; activations that move zeros."""

    layers: ClassVar[Mapping[str, int]] = {"wide": 6, "narrow": 4}

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depthwise = nn.Conv2d(2, 3, 3), nn.Conv2d(3, 3, 3, padding=1, groups=3)
        self.norm, self.wide, self.act = nn.LayerNorm(3), nn.Linear(3, 6), nn.Softplus()
        self.narrow, self.last, self.fc = nn.Linear(6, 4, bias=False), nn.Linear(4, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.last(F.gelu(self.narrow(self.act(self.wide(y)))))
        return self.fc((x + y.permute(0, 3, 1, 2)).mean((2, 3)))  # type: ignore[no-any-return]

    def belongs(self, layer: str, f: int) -> Iterator[Entry]:
        yield "wide.weight" if layer == "wide" else "narrow.weight", (f,)
        if layer == "wide":
            yield "wide.bias", (f,)
        yield from column("narrow" if layer == "wide" else "last", f)


NETS: dict[str, Any] = {
    "plain": Plain,
    "1d": lambda: Plain(1),
    "3d": lambda: Plain(3),
    "reflected": lambda: Plain(pad="reflect"),
    "cumulative average": lambda: Plain(momentum=None),
    "norm not affine": lambda: Plain(affine=False),
    "norm not tracking": lambda: Plain(track_running_stats=False),
    "own norm": lambda: Plain(bn=OwnNorm2d),
    "own convolution": lambda: Plain(conv=OwnConv2d),
    "kinds": Kinds,
    "residual": Residual,
    "pre-activated": PreActivated,
    "dense": Dense,
    "needs all": NeedsAll,
    "rows": Rows,
    "channels last": ChannelsLast,
    "parts": Parts,
}


def build(name: str, seed: int = 0) -> Net:
    """In float64, every parameter and running statistic random."""
    generator = torch.Generator().manual_seed(seed)
    net: Net = NETS[name]().double()
    with torch.no_grad():
        for key, tensor in net.state_dict().items():
            if tensor.is_floating_point():
                drawn = torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
                tensor.copy_(0.5 + drawn if key.endswith("running_var") or tensor.ndim == 1 else drawn - 0.5)
    return net


def loss_of(output: Tensor) -> Tensor:
    """Weighs every output in its own way."""
    return (output * torch.linspace(-1, 2, output.numel(), dtype=output.dtype).view_as(output)).sum()


def entries(net: Net, dropped: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What belongs to the dropped filters: name of a parameter or buffer -> bool, of its shape."""
    state = net.state_dict()
    masks = {name: torch.zeros_like(tensor, dtype=torch.bool) for name, tensor in state.items()}
    for layer, mask in dropped.items():
        for f in mask.nonzero().flatten().tolist():
            for name, index in net.belongs(layer, f):
                if name in masks:
                    masks[name][index] = True
    return masks


def without(net: Net, dropped: Mapping[str, Tensor]) -> Net:
    """A copy of the network where all of that is 0."""
    smaller = copy.deepcopy(net)
    with torch.no_grad():
        for name, mask in entries(net, dropped).items():
            smaller.state_dict()[name].masked_fill_(mask, 0)
    return smaller
