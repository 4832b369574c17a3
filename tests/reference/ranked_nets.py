"""Networks of every structure, with where each layer's channels are found and where they are taken away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from reference.nets import net
from reference.ranking import Behind, Data, Places
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from filtersmith import zoo


class Dense(nn.Module):
    """A DenseNet: every layer reads all channels before it, each behind a batch norm of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 5, 3, padding=1)
        self.bn1, self.conv1 = nn.BatchNorm2d(5), nn.Conv2d(5, 4, 3, padding="same", bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(9), nn.Conv2d(9, 4, 3, padding=1, padding_mode="circular")
        self.bn3, self.down = nn.BatchNorm2d(13), nn.Conv2d(13, 6, 1)
        self.bn4, self.fc = nn.BatchNorm2d(6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.cat([x, self.conv1(F.relu(self.bn1(x), inplace=True))], 1)
        x = torch.cat([x, self.conv2(F.relu(self.bn2(x), inplace=True))], 1)
        x = F.avg_pool2d(self.down(F.relu(self.bn3(x), inplace=True)), 2)
        return self.fc(F.relu(self.bn4(x)).mean((2, 3)))


class Gated(nn.Module):
    """Squeeze and excitation, a group norm over joined channels, features of a written size, channels as outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.gate = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.b, self.c = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)
        self.norm, self.d = nn.GroupNorm(2, 8), nn.Conv2d(8, 4, 3)
        self.fc = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(x))
        x = x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))
        x = torch.cat([self.b(x), self.c(x)], 1)
        x = self.d(F.relu(self.norm(x)))
        return self.fc(x.view(-1, 16)) + x.mean((2, 3))


class Inverted(nn.Module):
    """A depthwise convolution, of two filters for each channel, and a batch norm before channels are added."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.relu = nn.Conv2d(3, 4, 3), nn.ReLU()
        self.depthwise, self.bn = nn.Conv2d(4, 8, 3, groups=4), nn.BatchNorm2d(8)
        self.b, self.fc = nn.Conv2d(3, 8, 5), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc((self.bn(self.depthwise(self.relu(self.a(x)))) + self.b(x)).mean((2, 3)))


class Overwriting(nn.Module):
    """Reads a value again after something was written into it."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3)
        self.b, self.c = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        y = self.b(F.elu(x, inplace=True))
        return (y + self.c(x)).mean((2, 3))


class Deciding(nn.Module):
    """torch.fx cannot trace the whole, but a part; one convolution is called by what it cannot trace."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(inplace=True), nn.Conv2d(5, 4, 3))
        self.last = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        return (self.last(x) if x.sum() > -1e9 else x).mean((2, 3))


class Repeating(nn.Module):
    """A convolution that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.relu(self.b(F.relu(self.a(x))))).mean((2, 3))


@dataclass(frozen=True)
class Case:
    model: nn.Module
    behind: Behind
    places: Places
    size: int = 6
    strides: Mapping[str, int] = field(default_factory=dict)
    """Layer -> how many channels there each of its filters makes, if more than one."""

    def data(self, batch: int = 7, batches: int = 3) -> Data:
        """Mostly labelled as the network answers, so that leaving a filter out costs something."""
        generator = torch.Generator().manual_seed(5)
        found = []
        for _ in range(batches):
            images = torch.randn(batch, 3, self.size, self.size, generator=generator)
            training = {module: module.training for module in self.model.modules()}
            with torch.no_grad():
                labels = self.model.eval()(images).argmax(1)
            for module, mode in training.items():
                module.training = mode
            labels[::4] = torch.randint(4, labels[::4].shape, generator=generator)
            found.append((images, labels))
        return found


def _output(names: dict[str, str]) -> dict[str, Any]:
    return {name: [(module, "output", 0)] for name, module in names.items()}


def case(name: str) -> Case:
    """By name; batch norms have statistics and weights that are not those of a new network, and answers differ."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        made = _CASES[name]()
        with torch.no_grad():
            for module in made.model.modules():
                if isinstance(module, _BatchNorm):
                    module.running_mean.normal_(0, 0.3)
                    module.running_var.uniform_(0.5, 1.5)
                    module.weight.uniform_(0.5, 1.5)
                    module.bias.normal_(0, 0.5)
            if isinstance(last := getattr(made.model, "fc", None), nn.Linear):
                last.bias -= made.model.eval()(torch.randn(50, 3, made.size, made.size)).mean(0)
        made.model.train()
        return made


def _net() -> Case:
    behind = {"dense": ("bn", True), "grouped": ("grouped", True), "up": ("up", False), "one": ("one", False)}
    places = _output({"dense": "bn", "up": "up", "one": "one", "grouped_up": "grouped_up"})
    return Case(net(), behind | {"grouped_up": ("grouped_up", False)}, places | {"grouped": [("up", "input", 0)]})


def _vanilla() -> Case:
    names = {"features.0": "features.2", "features.3": "features.5"}
    model = zoo.build("vanilla-2-6", num_classes=4, image_size=6)
    return Case(model, {name: (module, False) for name, module in names.items()}, _output(names))


def _resnet() -> Case:
    model = zoo.build("resnet14", num_classes=4)
    names = {"conv1": "bn1"}
    for block in (f"layer{stage}.{n}" for stage in (1, 2, 3) for n in range(2)):
        names |= {f"{block}.conv1": f"{block}.bn1", f"{block}.conv2": f"{block}.bn2"}
    return Case(model, {n: (m, not n.endswith("conv2")) for n, m in names.items()}, _output(names), size=8)


def _wrn() -> Case:
    model = zoo.build("wrn-10-1", num_classes=4)
    behind: dict[str, tuple[str, bool]] = {"conv1": ("conv1", False)}
    places: dict[str, Any] = {"conv1": [("conv1", "output", 0), ("layer1.0.conv1", "input", 0)]}
    for block in ("layer1.0", "layer2.0", "layer3.0"):
        behind |= {f"{block}.conv1": (f"{block}.bn2", True), f"{block}.conv2": (f"{block}.conv2", False)}
        places |= {f"{block}.conv1": [(f"{block}.conv2", "input", 0)]} | _output({f"{block}.conv2": f"{block}.conv2"})
    for block in ("layer2.0", "layer3.0"):
        behind[f"{block}.projection"] = (f"{block}.projection", False)
        places |= _output({f"{block}.projection": f"{block}.projection"})
    return Case(model, behind, places, size=8)


def _dense() -> Case:
    model = Dense()
    places = {
        "stem": [("conv1", "input", 0), ("conv2", "input", 0), ("down", "input", 0)],
        "conv1": [("conv2", "input", 5), ("down", "input", 5)],
        "conv2": [("down", "input", 9)],
        "down": [("fc", "input", 0)],
    }
    return Case(model, {name: (name, False) for name in places}, places)


def _gated() -> Case:
    names = {name: name for name in ("a", "gate", "c", "d")}
    behind = {"a": ("a", True), "b": ("b", False), "c": ("c", False), "d": ("d", False)}
    places = _output(names) | {"b": [("b", "output", 0), ("d", "input", 0)]}
    places["c"] = [("c", "output", 0), ("d", "input", 4)]
    del places["gate"]  # the sigmoid behind it is what becomes 0: see the test
    return Case(Gated(), behind, places)


def _plain(model: nn.Module, *names: str) -> Case:
    return Case(model, {name: (name, False) for name in names}, _output({name: name for name in names}))


def _inverted() -> Case:
    """Filter f of ``a`` makes channels 2f and 2f + 1."""
    places = {"a": [("bn", "output", 0), ("bn", "output", 1)], "b": [("b", "output", 0)]}
    return Case(Inverted(), {"a": ("a", True), "b": ("b", False)}, places, strides={"a": 2})


def _deciding() -> Case:
    names = {"body.0": "body.2", "body.3": "body.3", "last": "last"}
    return Case(Deciding(), {n: (m, False) for n, m in names.items()}, _output(names))


_CASES = {
    "net": _net,
    "vanilla": _vanilla,
    "resnet": _resnet,
    "wrn": _wrn,
    "dense": _dense,
    "gated": _gated,
    "inverted": _inverted,
    "overwriting": lambda: _plain(Overwriting(), "a", "b", "c"),
    "deciding": _deciding,
}
CASES = tuple(_CASES)
