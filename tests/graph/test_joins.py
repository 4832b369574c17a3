"""Several tensors: what their zeros are together, against a mask written by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from reference.masked import FILTERS, verdict
from torch import nn

CALLS: dict[str, tuple[str, Callable[..., Any]]] = {
    "divided by a number": ("go", lambda s, y: y / 3),
    "divided by a parameter": ("zeros", lambda s, y: y / s.scale),
    "divided by a norm of all": ("zeros", lambda s, y: y / y.norm(dim=1, keepdim=True)),
    "a number divided by it": ("go, not by zeros", lambda s, y: s.m(2.0 / y)),
    "a sum of its own": ("go", lambda s, y: s.m(y.cos() + y)),
    "its own gate": ("go", lambda s, y: y * y.cos()),
    "joined with its own": ("zeros", lambda s, y: y + torch.cat([y, y], 1)[:, :6]),
    "joined in space": ("go", lambda s, y: torch.cat([y, y], 2)),
    "a batch norm apart, before statistics of several": ("go", lambda s, y: statistics(s, y)),
    "the same, with all channels": (
        "zeros in its place would not be zeros any more where norm has statistics over several channels",
        lambda s, y: statistics(s, y, s.scale),
    ),
}


def statistics(s: Any, y: Any, scale: Any = 1.0) -> Any:
    y = s.m(s.bn(torch.sigmoid(y))) * scale
    return s.m(s.norm(s.m(y * torch.cos(y))))


@pytest.mark.parametrize("name", CALLS)
def test_calls(name: str) -> None:
    expected, forward = CALLS[name]
    modules = {"bn": nn.BatchNorm2d(FILTERS), "norm": nn.GroupNorm(2, FILTERS)}
    assert verdict(forward, scale=nn.Parameter(torch.ones(FILTERS, 1, 1)), **modules) == expected
