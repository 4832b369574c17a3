"""Which layers a method may work on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from reference.subnet import Kinds, Residual, Rows
from torch import nn
from torch.optim import SGD

import filtersmith as fs
from filtersmith.graph.channels import channel_graph
from filtersmith.pruning.eligibility import eligible_layers, refuse_kernels


def shared() -> nn.Module:
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Conv2d(3, 3, 1))
    net[2].weight = net[0].weight
    return net


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fs.expand(Residual(), fs.KFLO()), r"layer 'stem' cannot lose filters: it is expanded.*fs\.collapse"),
        (
            lambda: fs.expand(Residual(), fs.ACNet()),
            r"layer 'stem' cannot lose filters: it is expanded.*fs\.collapse",
        ),
        (
            lambda: fs.expand(Residual(), fs.DOConv()),
            r"layer 'stem' cannot lose filters: it is expanded.*fs\.collapse",
        ),
        (shared, "layer '0' cannot lose filters: it shares its kernel with another layer, '2'"),
        (lambda: nn.Sequential(nn.Conv2d(3, 3, 1), nn.LazyConv2d(4, 1)), "layer '1' cannot lose filters: it is lazy"),
    ],
    ids=["KFLO", "ACNet", "DOConv", "shared", "lazy"],
)
def test_kernels_that_are_refused(make: Callable[[], Any], message: str) -> None:
    net = make()
    with pytest.raises(ValueError, match=message) as error:
        refuse_kernels(net)
    assert "\n" not in str(error.value)


def test_kernels_that_are_not_refused() -> None:
    """A module in two places, and one under another name where it is compiled, have kernels of their own."""
    twice = nn.Conv2d(3, 3, 1)
    refuse_kernels(nn.Sequential(twice, nn.ReLU(), twice, nn.BatchNorm2d(3), nn.Linear(3, 3)))
    refuse_kernels(nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), torch.compile(nn.Conv2d(3, 3, 1), backend="eager")))


def test_eligible_layers() -> None:
    net = Rows()
    every = SGD(net.parameters(), lr=0.1)
    layers, reasons = eligible_layers(net, channel_graph(net), False, every)
    assert list(layers) == ["b", "c"]
    assert list(reasons) == ["a"]
    assert "first_layer=True" in reasons["a"]
    assert all(layer.name == name and layer.module is net.get_submodule(name) for name, layer in layers.items())
    assert list(eligible_layers(net, channel_graph(net), True, every)[0]) == ["a", "b", "c"]
    few = SGD([net.a.weight, *net.b.parameters()], lr=0.1)
    assert eligible_layers(net, channel_graph(net), False, few)[1]["c"] == "the optimizer does not have its weight"
    none = SGD([net.a.bias], lr=0.1)
    assert list(eligible_layers(net, channel_graph(net), False, none)[0]) == ["b", "c"], "that one is warned of"
    net.b.weight.requires_grad_(False)
    nn.utils.parametrizations.weight_norm(net.c)
    layers, reasons = eligible_layers(net, channel_graph(net), True, every)
    computed = "its weight is not a parameter but computed from others (a parametrization, weight or spectral norm)"
    assert list(layers) == ["a"]
    assert reasons == {"b": "its weight is frozen", "c": computed}
    with pytest.raises(ValueError, match=r"no convolution whose filters may be left out \(a: it is the first layer"):
        eligible_layers(net, channel_graph(net), False, every)
    with pytest.raises(ValueError, match=r"\(there is none\)"):
        eligible_layers(nn.Linear(2, 2), channel_graph(nn.Linear(2, 2)), True, every)
    _, reasons = eligible_layers(Kinds(), channel_graph(Kinds()), True, SGD(Kinds().parameters(), lr=0.1))
    assert list(reasons) == ["dw", "dt"]


def test_of_one_filter_none_may_go() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 1, 1), nn.Conv2d(1, 2, 1), nn.Flatten(), nn.Linear(2, 2))
    layers, reasons = eligible_layers(net, channel_graph(net), True, SGD(net.parameters(), lr=0.1))
    assert list(layers) == ["0", "2"]
    assert reasons == {"1": "it has a single filter"}


def test_what_channels_pass_has_to_be_that_modules_own() -> None:
    """Its part for a filter that is left out is held still, and starts anew."""
    net = nn.Sequential(
        *(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)),
        *(nn.Conv2d(4, 4, 1), nn.utils.weight_norm(nn.Conv2d(4, 4, 3, groups=4)), nn.Conv2d(4, 4, 1)),
        *(nn.PReLU(4), nn.Conv2d(4, 2, 1)),
    )
    net[3].weight = net[1].weight
    layers, reasons = eligible_layers(net, channel_graph(net), True, SGD(net.parameters(), lr=0.1))
    assert list(layers) == ["6"]
    assert reasons["0"] == "its channels pass 1, whose parameters are also another module's"
    assert reasons["4"] == "its channels pass 5, whose parameters are computed from others"
