"""Calls that the table does not know: what a probe finds is what the masked network computes, or the layer stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from reference.masked import FILTERS, verdict
from torch import Tensor, fx, nn
from torch.nn import functional as F


def centred(y: Tensor) -> Tensor:
    """A normalisation over channels and positions that is no function of torch's."""
    return (y - y.mean((1, 2, 3), keepdim=True)) / (y.var((1, 2, 3), keepdim=True) + 1e-5).sqrt()


def scaled(y: Tensor, weight: Tensor) -> Tensor:
    return y / y.norm(dim=1, keepdim=True) * weight.view(-1, 1, 1)


def overwrites(y: Tensor) -> Tensor:
    y.add_(1)
    return y * 2


for name in ("centred", "scaled", "overwrites"):
    fx.wrap(name)

GO = "go"
ZEROS = "zeros"
HELD = "not be zeros any more"
CALLS: dict[str, tuple[str, Callable[..., Any]]] = {
    "cos": (GO, lambda s, y: s.m(y.cos())),
    "expit": (GO, lambda s, y: s.m(torch.special.expit(y))),
    "threshold": (GO, lambda s, y: s.m(F.threshold(y, 0.1, 0.3))),
    "clamp": (GO, lambda s, y: s.m(y.clamp(min=0.1))),
    "clamp that keeps zero": (GO, lambda s, y: y.clamp(-0.2, 0.3)),
    "power": (GO, lambda s, y: y**3),
    "leaky": (GO, lambda s, y: torch.where(y > 0, y, 0.1 * y)),
    "of space": (GO, lambda s, y: y.flip(2).roll(1, 3).cumsum(2).transpose(2, 3)),
    "maximum over space": (GO, lambda s, y: y.amax((2, 3))),
    "features": (GO, lambda s, y: s.m(y.flatten(1).cos())),
    "its deviation": (f"{GO}, not by zeros", lambda s, y: s.m(y / y.std((2, 3), keepdim=True))),
    "its deviation, with more": (GO, lambda s, y: y / (y.std((2, 3), keepdim=True) + 0.1)),
    "normalised positions": (GO, lambda s, y: F.instance_norm(y)),
    "a fixed number of channels": (ZEROS, lambda s, y: y[:, [5, 4, 3, 2, 1, 0]]),
    "own norm": (ZEROS, lambda s, y: centred(y)),
    "normalised channels": (ZEROS, lambda s, y: F.normalize(y)),
    "softmax": (ZEROS, lambda s, y: y.softmax(1)),
    "larger of two": (ZEROS, lambda s, y: torch.maximum(y, s.other(y))),
    "deviation in a sum": (HELD, lambda s, y: y / y.std((2, 3), keepdim=True) + s.other(y)),
    "cos in a sum": (HELD, lambda s, y: y.cos() + s.other(y)),
    "cos before a view": (HELD, lambda s, y: y.cos().view(-1, 3, 2, 6, 4).flatten(1, 2)),
    "divided by it": ("they enter truediv", lambda s, y: s.other(y) / y),
    "own norm with parameters": ("they enter scaled", lambda s, y: scaled(y, s.scale)),
    "group norm": ("no module", lambda s, y: F.group_norm(y, 2)),
    "with a weight": ("no module", lambda s, y: torch.group_norm(y, 2, s.scale)),
    "layer norm": ("no module", lambda s, y: F.layer_norm(y, (4,), s.across)),
    "one that writes": ("they enter overwrites", lambda s, y: overwrites(y)),
    "of something else": ("they enter where", lambda s, y: torch.where(s.other(y).mean(1, True) > 0, y, 1.0)),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls(name: str) -> None:
    expected, forward = CALLS[name]
    found = verdict(
        forward,
        other=nn.Conv2d(FILTERS, FILTERS, 1),
        scale=nn.Parameter(torch.ones(FILTERS)),
        across=nn.Parameter(torch.ones(4)),
    )
    assert found == expected or (expected not in (GO, ZEROS) and expected in found)
