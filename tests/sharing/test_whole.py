"""What is asked of a network as a whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from reference.nets import net
from torch import nn

import filtersmith as fs
from filtersmith.sharing.whole import plain, unready


@pytest.mark.parametrize("method", [fs.KFLO(), fs.DOConv(), fs.ACNet(), fs.DBB()])
def test_an_expanded_network_is_refused_by_the_name_of_the_layer(method: Any) -> None:
    model = fs.expand(net(), method, layers=["dense"])
    assert list(unready(model)) == ["dense"]
    with pytest.raises(ValueError, match=r"^cannot share kernels: layer 'dense': it is expanded already, .*collapse"):
        plain(model, "share kernels")
    linear = fs.expand(net(), fs.KFLO(), layers=["fc"])
    assert list(unready(linear)) == ["fc"]


def test_a_lazy_network_is_refused_until_its_first_forward_pass() -> None:
    lazy = nn.LazyBatchNorm2d(affine=False, track_running_stats=False)
    model = nn.Sequential(nn.LazyConv2d(4, 3), lazy, nn.Conv2d(4, 4, 1))
    assert list(unready(model)) == ["0", "1"]
    with pytest.raises(ValueError, match=r"^cannot add regulators: layer '0': it is lazy .*forward pass first\)$"):
        plain(model, "add regulators")
    model(torch.zeros(1, 3, 5, 5))
    assert unready(model) == {}
    assert plain(torch.compile(model, backend="eager"), "add regulators") is model  # type: ignore[arg-type]


def test_a_wrapped_network_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^cannot share kernels under DataParallel: .*before it is wrapped$"):
        plain(nn.DataParallel(net()), "share kernels")
