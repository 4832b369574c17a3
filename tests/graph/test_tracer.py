"""Networks that torch.fx alone does not trace: what is called, and what stays unknown."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from reference.calls import Calls
from torch import Tensor, fx, nn
from torch.nn import functional as F

from filtersmith.graph.trace import parts
from filtersmith.graph.tracer import Tracer


class Optional(nn.Module):
    """Three convolutions, chosen by defaults."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor, features: bool = False, *more: Any, mode: str = "b", mask: Any = None) -> Tensor:
        x = self.a(x, *more)
        if features or mask is not None:
            return self.c(x)
        return self.b(x) if mode == "b" else x


def tell(network: nn.Module, **options: Any) -> list[str]:
    graph = Tracer((), alone=True, **options).trace(network)
    return [str(node.target) for node in graph.nodes if node.op == "call_module"]


def checked(net: Any, x: Tensor) -> Any:
    y = net.a(x)
    _, channels, height, width = y.shape
    if channels != 8 or height % 2 or not width % 2 == 0:  # pytest makes something else of assert
        raise ValueError(f"{height} x {width}")
    if y.dim() != 4 or len(y.shape) != 4:
        return y
    if not isinstance(y, Tensor) or isinstance(height, Tensor) or isinstance(y.shape, list):
        return y
    return net.b(y)


WHOLE: dict[str, Callable[[Any, Any], Any]] = {
    "chunk": lambda net, x: net.b(torch.cat([F.relu(each) for each in net.a(x).chunk(3, 1)], 1)),
    "split": lambda net, x: net.b(torch.cat([*torch.split(F.relu(net.a(x)), [3, 5], dim=1)], 1)),
    "tensor_split": lambda net, x: net.b(torch.cat(list(net.a(x).tensor_split(3, 2)), 2)),
    "unbind": lambda net, x: net.b(torch.stack(list(net.a(x).unbind(1)), 1)),
    "len": lambda net, x: net.b(y) if len((y := net.a(x)).chunk(4, 1)) == 4 else y,
    "made on the way": lambda net, x: net.b(nn.ReLU()(nn.Sequential(net.a, nn.ReLU())[:1](x))),
    "device": lambda net, x: net.b(y) if (y := net.a(x)).device.type == "cpu" and not y.is_cuda else y,
    "checked": checked,
}


@pytest.mark.parametrize("name", WHOLE)
def test_what_is_known_decides(name: str) -> None:
    network = Calls(WHOLE[name], a=nn.Conv2d(3, 8, 1), b=nn.Conv2d(8, 2, 1))
    assert [each for each in tell(network) if each in "ab"] == ["a", "b"]
    assert network(torch.randn(2, 3, 4, 6)).shape == (2, 2, 4, 6)


UNKNOWN: dict[str, Callable[[Any, Any], Any]] = {
    "images": lambda net, x: [net.a(each) for each in x.chunk(3, 1)],
    "as many as fit": lambda net, x: [net.a(each) for each in net.a(x).split(2, 3)],
    "size": lambda net, x: net.a(x) if net.a(x).shape[2] > 7 else x,
    "a module of its own class": lambda net, x: net.a(x) if isinstance(net.other(x), Tensor) else x,
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_known_is_not_guessed(name: str) -> None:
    network = Calls(UNKNOWN[name], a=nn.Conv2d(3, 8, 1), other=torch.nn.LSTM(3, 3))
    with pytest.raises(fx.proxy.TraceError):
        tell(network)


def test_defaults_are_what_the_network_is_called_with() -> None:
    assert tell(Optional()) == ["a", "b"]
    outer = Calls(lambda net, x: net.inner(x, mode="c"), inner=Optional())
    assert tell(outer) == ["inner.a"]


def refuse(*_: Any) -> None:
    raise RuntimeError("compiled code takes no stand-ins")


class Compiled(nn.Module):
    """As ``torch.compile`` wraps a module; compiling itself takes seconds."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._orig_mod = module

    forward = staticmethod(refuse)


def test_compiled_parts_are_looked_through() -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 1), Compiled(nn.Sequential(nn.Conv2d(3, 3, 1))), Optional())
    network[2]._compiled_call_impl = call = refuse
    (part,) = parts(network, False)
    names = [part.name(node) for node in part.graph.nodes if node.op == "call_module"]
    assert names == ["0", "1._orig_mod.0", "2.a", "2.b"]
    assert network[2]._compiled_call_impl is call


def rearrange(x: Any, pattern: str) -> Any:
    if type(x) is not Tensor:
        raise RuntimeError("tensor type unknown")
    return x


def test_functions_and_layers_of_einops_are_single_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    class Rearrange(nn.Module):
        forward = staticmethod(lambda x: rearrange(x, "b c h w -> b c h w"))

    package = ModuleType("einops")
    package.rearrange = rearrange  # type: ignore[attr-defined]
    Rearrange.__module__ = "einops.layers.torch"
    monkeypatch.setitem(sys.modules, "einops", package)
    network = Calls(
        lambda net, x: net.layer(rearrange(net.a(x), "b c h w -> b c h w")),  # type: ignore[name-defined]
        a=nn.Conv2d(3, 3, 1),
        layer=Rearrange(),
    )
    graph = Tracer((), alone=True).trace(network)
    assert [node.target for node in graph.nodes][1:-1] == ["a", rearrange, "layer"]
    assert network.run.__globals__["rearrange"] is package.rearrange
