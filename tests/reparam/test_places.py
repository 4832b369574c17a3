"""Where a block or a computed weight may stand, and where a layer has to stay as it is."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from reference.nets import assert_same
from torch import Tensor, nn
from torch.nn import functional as F

import filtersmith as fs


def conv(**options: Any) -> nn.Conv2d:
    return nn.Conv2d(4, 4, 3, padding=1, **options)


class InAList(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(), conv()
        self.todo = [self.a, functools.partial(self.b)]

    def forward(self, x: Tensor) -> Tensor:
        return self.todo[1](F.relu(self.todo[0](x)))


class AsksForTheClass(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(), conv()

    def forward(self, x: Tensor) -> Tensor:
        for module in self.children():
            x = module(x) if isinstance(module, nn.Conv2d) else x
        return x


class Reads(AsksForTheClass):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.a.weight) + F.conv2d(x, self.b.weight)


def hooked() -> nn.Module:
    network = nn.Sequential(conv())
    network[0].register_forward_hook(lambda module, given, output: output.clamp(max=0.2))
    return network


def replaced() -> nn.Module:
    network = nn.Sequential(conv())
    network[0].forward = lambda x: F.relu(x)
    return network


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (InAList, "it is also kept in a plain list"),
        (AsksForTheClass, "the network's code asks what it is"),
        (Reads, "its weight is read by the network's own code"),
        (hooked, "it has hooks"),
        (replaced, "its forward is replaced"),
    ],
)
def test_what_something_else_sees_does_not_become_a_block(make: Any, reason: str) -> None:
    network = make()
    before = list(network.modules())
    assert all(why.startswith(reason) for why in fs.why_not(network, "acnet").values())
    with pytest.raises(ValueError, match=reason) as caught:
        fs.expand(network, fs.ACNet())
    assert "\n" not in str(caught.value)
    assert list(network.modules()) == before


class Clips(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        self.weight.data.clamp_(-0.1, 0.1)
        return super().forward(input)


class Standardised(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(input, self.weight - self.weight.mean((1, 2, 3), keepdim=True), self.bias, padding=1)


def clip(module: Any, given: Any) -> None:
    module.weight.data.clamp_(-0.1, 0.1)


def test_weights_that_are_written_stay_parameters() -> None:
    network = nn.Sequential(Clips(4, 4, 3), Standardised(4, 4, 3), conv(), conv())
    network[2].register_forward_pre_hook(clip)
    network[3].register_forward_hook(lambda module, given, output: output * 2)
    assert fs.why_not(network, "kflo").keys() == {"0", "2"}
    x = torch.randn(1, 4, 8, 8)
    before = network(x)
    fs.expand(network, fs.KFLO(width=2))
    assert_same(network(x), before)
    assert_same(fs.collapse(network)(x), before)


class ClipsAChild(AsksForTheClass):
    """Before its own layers are called, by a method that its forward names."""

    def clip_all(self) -> None:
        with torch.no_grad():
            self.a.weight.clamp_(-0.1, 0.1)

    def forward(self, x: Tensor) -> Tensor:
        self.clip_all()
        return self.b(F.relu(self.a(x)))  # type: ignore[no-any-return]


def clip_a(module: Any, given: Any) -> None:
    module.a.weight.data.clamp_(-0.1, 0.1)


def clipped_by_a_hook_above() -> nn.Module:
    network = AsksForTheClass()
    network.register_forward_pre_hook(clip_a)
    return nn.Sequential(network, conv())


@pytest.mark.parametrize(
    ("make", "method", "left"),
    [
        (lambda: nn.Sequential(ClipsAChild(), conv()), "kflo", {"0.a", "0.b"}),
        (lambda: nn.Sequential(ClipsAChild(), conv()), "acnet", {"0.a"}),
        (clipped_by_a_hook_above, "do-conv", {"0.a", "0.b"}),
        (clipped_by_a_hook_above, "dbb", {"0.a", "0.b"}),
    ],
)
def test_layers_into_which_what_they_are_in_may_write(make: Any, method: str, left: set[str]) -> None:
    network, x = make(), torch.randn(1, 4, 8, 8)
    before = network(x)
    assert fs.why_not(network, method).keys() == left
    network = fs.compose(method).prepare(network).eval()
    expanded = network(x)
    if method in ("kflo", "do-conv"):
        torch.testing.assert_close(expanded, before)
    torch.testing.assert_close(fs.collapse(network)(x), expanded)


class ActivationBehind(nn.BatchNorm2d):
    """What timm's BatchNormAct2d is."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.drop, self.act, self.tag = nn.Dropout(0.1), nn.PReLU(channels), "mine"

    def forward(self, input: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(input)))


class Adds(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + input


@pytest.mark.parametrize("method", [fs.ACNet(), fs.DBB()])
def test_a_batch_norm_with_children_gives_them_to_what_stands_in_its_place(method: Any) -> None:
    network = nn.Sequential(conv(bias=False), ActivationBehind(4), conv(bias=False), Adds(4)).double()
    names = list(network.state_dict())
    fs.expand(network, method)
    assert "does more than normalise" in fs.why_not(network, "acnet")["2"]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    network(torch.randn(3, 4, 6, 6, dtype=torch.float64)).square().mean().backward()
    optimizer.step()
    network.eval()
    deployed = fs.collapse(network)
    assert list(deployed.state_dict()) == names
    assert (type(deployed[1]), deployed[1].tag) == (ActivationBehind, "mine")
    x = torch.randn(3, 4, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(deployed(x), network(x), rtol=0, atol=1e-10)


def test_arguments_by_name() -> None:
    class ByName(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn = conv(bias=False), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.bn(input=self.conv(input=x))

    network = fs.expand(ByName().eval(), fs.DBB())
    x = torch.randn(1, 4, 6, 6)
    torch.testing.assert_close(fs.collapse(network)(x), network(x), rtol=0, atol=1e-5)
