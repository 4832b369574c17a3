"""Classes of one's own, hooks and replaced code: tried on a copy, and else left whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from reference.masked import FILTERS, verdict
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.nn.utils import weight_norm as old_weight_norm

from filtersmith.graph.classes import MORE, is_torchs, loses_filters, on_channels, signature, tampered


def convolution(forward: Callable[..., Any]) -> type[nn.Conv2d]:
    """A class of convolutions that does more, or not: ``forward`` gets the module, its input and `Conv2d.forward`."""
    plain = nn.Conv2d.forward
    return type("Own", (nn.Conv2d,), {"forward": lambda self, x: forward(self, x, lambda y: plain(self, y))})


def standardised(self: Any, x: Tensor, plain: Any) -> Tensor:
    weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
    return self._conv_forward(x, weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5), self.bias)


CONVOLUTIONS: dict[str, tuple[bool, Callable[..., Any]]] = {
    "the same": (True, lambda s, x, plain: plain(x)),
    "twice as much": (True, lambda s, x, plain: plain(x) * 2),
    "with an activation": (True, lambda s, x, plain: plain(x).relu()),
    "standardised weights": (True, standardised),
    "shuffled": (False, lambda s, x, plain: F.pixel_shuffle(plain(x), 1).flip(1)),
    "larger": (False, lambda s, x, plain: F.pixel_shuffle(plain(x[:, :, :]), 2)[:, :1]),
    "with its input": (False, lambda s, x, plain: plain(x) + x.mean(1, keepdim=True)),
    "an activation that moves zero": (False, lambda s, x, plain: plain(x).sigmoid()),
    "normalised": (False, lambda s, x, plain: F.layer_norm(plain(x), plain(x).shape[1:])),
    "an input divided by itself": (False, lambda s, x, plain: plain(x / x.std((2, 3), keepdim=True))),
    "padded channels": (False, lambda s, x, plain: F.pad(plain(x), (0, 0, 0, 0, 0, 2))),
    "only in training": (False, lambda s, x, plain: plain(x) + s.training),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name: str) -> None:
    fits, forward = CONVOLUTIONS[name]
    kind = convolution(forward)
    own = kind(3, FILTERS, 3, padding=1)
    own.weight.requires_grad_(False)
    before, state = own.weight.clone(), torch.get_rng_state()
    assert loses_filters(own) is fits
    assert torch.equal(own.weight, before)
    assert torch.equal(torch.get_rng_state(), state)
    if name in ("larger", "padded channels"):
        return
    first = verdict(lambda s, y: y, first=kind(3, FILTERS, 3, padding=1)) if name != "only in training" else MORE
    assert first == (MORE if not fits else "go")
    reader = verdict(lambda s, y: s.reader(y), reader=kind(FILTERS, 4, 3, padding=1))
    assert reader == ("go" if fits else f"they enter reader: {MORE}") or reader == "go, not by zeros"


def test_transposed_grouped_and_depthwise() -> None:
    assert loses_filters(type("Own", (nn.ConvTranspose2d,), {})(4, 6, 3, groups=2))
    assert loses_filters(type("Own", (nn.ConvTranspose1d,), {})(4, 6, 3, stride=2))
    assert loses_filters(type("Own", (nn.Conv1d,), {})(4, 8, 3, groups=4))
    assert not loses_filters(convolution(lambda s, x, plain: plain(x) * (1 + x.abs().mean()))(4, 4, 3, groups=4))


class Summed(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + x.mean(1, keepdim=True)


class Gate(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).sigmoid()


class Grouped(nn.GroupNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu()


def test_norms() -> None:
    assert on_channels(Summed(6), 6, 2, each=True) is None
    assert on_channels(Gate(6), 6, 2, each=True) == "something"
    assert on_channels(Grouped(2, 6), 6, 2, each=False) == "zeros"
    assert on_channels(Grouped(2, 6), 6, 2, each=True) is None
    assert on_channels(type("Own", (nn.BatchNorm2d,), {})(6), 6, 2, each=True) == "zeros"
    assert "norm cannot leave channels out" in verdict(lambda s, y: s.norm(y), norm=Summed(FILTERS))
    assert verdict(lambda s, y: s.m(s.norm(y)), norm=Gate(FILTERS)) == "go"
    turned = verdict(lambda s, y: s.m(s.norm(y)).permute(0, 2, 3, 1), norm=Gate(FILTERS))
    assert turned == "zeros, not by zeros"


def other() -> nn.Conv2d:
    return nn.Conv2d(FILTERS, FILTERS, 1)


def hooked(module: nn.Module, pre: bool = False) -> nn.Module:
    if pre:
        module.register_forward_pre_hook(lambda module, inputs: (inputs[0] + 1,))
    else:
        module.register_forward_hook(lambda module, inputs, output: output + 1)
    return module


def replaced(module: nn.Module) -> nn.Module:
    plain = module.forward
    module.forward = lambda x: plain(x) + 1  # type: ignore[method-assign]
    return module


@pytest.mark.parametrize("change", [hooked, lambda module: hooked(module, pre=True), replaced])
def test_what_may_compute_something_else(change: Callable[[nn.Module], nn.Module]) -> None:
    why = "a hook may change what it computes" if change is not replaced else "its forward is replaced"
    assert verdict(lambda s, y: y, first=change(nn.Conv2d(3, FILTERS, 1))) == why
    for module in (other(), nn.BatchNorm2d(FILTERS), nn.ReLU(), nn.Conv2d(FILTERS, FILTERS, 1, groups=FILTERS)):
        assert why in verdict(lambda s, y: s.one(y), one=change(module))
    assert why in verdict(lambda s, y: s.one(y.flatten(1)), one=change(nn.Linear(FILTERS * 24, 3)))


def test_hooks_of_torchs_own_and_classes_of_torchs() -> None:
    old = old_weight_norm(nn.Conv2d(3, 4, 1))
    assert tampered(old) is None
    assert is_torchs(parametrizations.weight_norm(nn.Conv2d(3, 4, 1)))
    assert not is_torchs(convolution(lambda s, x, plain: x)(3, 4, 1))


def test_only_what_does_the_same_has_one_signature() -> None:
    def own(**more: Any) -> nn.Module:
        module = convolution(lambda s, x, plain: s.act(plain(x)))
        made = kinds.setdefault("own", module)(3, 4, 1)
        for name, value in more.items():
            setattr(made, name, value)
        return made

    kinds: dict[str, Any] = {}
    assert signature(own(act=F.relu)) == signature(own(act=F.relu))
    assert signature(own(act=F.relu)) != signature(own(act=torch.sigmoid))
    assert signature(own(act=nn.ELU(1.0))) != signature(own(act=nn.ELU(2.0)))
