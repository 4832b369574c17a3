"""Entries that are 0 and stay so: which they are, and that they make the network without the filters."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from reference.calls import Calls
from reference.nets import assert_same
from reference.sliced import TIGHT, every_other
from reference.subnet import NETS, build, entries
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD

import filtersmith as fs
from filtersmith.graph.channels import channel_graph
from filtersmith.pruning.masks import (
    arrives_as_zero,
    by_zeros,
    forget_statistics,
    not_by_zeros,
    set_zero,
    single_weights,
    without_filters,
)
from filtersmith.pruning.plan import plan
from filtersmith.pruning.subnetwork import leave_out, restore


@pytest.mark.parametrize("name", NETS)
def test_the_entries_are_those_written_by_hand(name: str) -> None:
    net = build(name)
    dropped = every_other(net)
    names = {module: key for key, module in net.named_modules()}
    masks = {f"{names[m]}.{k}": mask for (m, k), mask in without_filters(plan(channel_graph(net), dropped)).items()}
    by_hand = entries(net, dropped)
    assert_same({k: masks[k] for k in sorted(masks)}, {k: by_hand[k] for k in sorted(masks)})
    assert {k for k, _ in net.named_parameters() if by_hand[k].any()} == set(masks)


@pytest.mark.parametrize("name", NETS)
def test_zeros_make_the_network_without_the_filters(name: str) -> None:
    net = build(name).eval()
    graph = channel_graph(net)
    assert not_by_zeros(net, graph) == {}
    smaller = plan(graph, every_other(net))
    leave_out(smaller)
    expected = net(net.images(3, 0))
    restore(graph)
    with torch.no_grad():
        for (module, key), mask in without_filters(smaller).items():
            module.get_parameter(key).masked_fill_(mask, 0)
    forget_statistics(smaller)
    torch.testing.assert_close(net(net.images(3, 0)), expected, **TIGHT)


class Standardised(nn.Conv2d):
    """A weight without a mean makes something of zeros in it."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight - self.weight.mean((1, 2, 3), keepdim=True), self.bias)


def shared() -> nn.Module:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1))
    net[2].weight = net[1].weight
    return net


def summed(end: nn.Module) -> nn.Module:
    return Calls(lambda s, x: s.end(s.a(x)) + s.b(x), a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(3, 4, 1), end=end)


BEFORE = ", and {} makes something else of zeros before that"


@pytest.mark.parametrize(
    ("net", "reasons"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sigmoid(), nn.Conv2d(4, 4, 1)), {}),
        (summed(nn.ReLU()), {}),
        (summed(nn.Sigmoid()), {"a": "end makes something else of zeros, where they are added to others"}),
        (nn.Sequential(nn.Conv2d(3, 4, 1), Standardised(4, 4, 1)), {}),
        (
            nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sigmoid(), Standardised(4, 4, 1)),
            {"0": "it is followed by 2, whose class may make something else of zeros" + BEFORE.format(1)},
        ),
        (shared(), dict.fromkeys("12", "it shares a parameter with another layer")),
        (
            nn.Sequential(nn.Conv2d(3, 4, 1), nn.Softplus(), nn.utils.weight_norm(nn.Conv2d(4, 4, 1))),
            {"0": "it is followed by 2, whose weight is computed" + BEFORE.format(1)},
        ),
    ],
    ids=[
        "nothing that counts",
        "zeros kept",
        "zeros moved",
        "zeros for an own class",
        "own class",
        "shared",
        "computed",
    ],
)
def test_where_zeros_do_not(net: nn.Module, reasons: dict[str, str]) -> None:
    assert not_by_zeros(net, channel_graph(net)) == reasons


READERS: dict[str, Callable[[], nn.Module]] = {
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(6, 4, 3)),
    "old weight norm": lambda: nn.utils.weight_norm(nn.Conv2d(6, 4, 3)),
    "standardised": lambda: Standardised(6, 4, 3),
    "plain": lambda: nn.Conv2d(6, 4, 3),
}


@pytest.mark.parametrize("act", [nn.ReLU(), nn.Sigmoid()], ids=["zeros kept", "zeros moved"])
@pytest.mark.parametrize("reader", READERS)
def test_a_weight_that_cannot_be_zero_stays_where_the_channels_are_zero_themselves(
    reader: str, act: nn.Module
) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), act, READERS[reader](), nn.ReLU()).double().eval()
    nn.init.uniform_(net[1].bias, 0.5, 1)
    gone, images = torch.tensor([True, False, False, True, False, True]), torch.randn(2, 3, 9, 9, dtype=torch.float64)
    kept = (~gone).double().view(1, -1, 1, 1)
    expected = net[3:](kept * net[2](kept * net[1](kept * net[0](images))))
    graph = channel_graph(net)
    found, before = by_zeros(net, graph), copy.deepcopy(net[3].state_dict())
    assert arrives_as_zero(graph.sites["3"], "0") == isinstance(act, nn.ReLU)
    assert ("3" in found.alone) == (reader != "plain")
    smaller = plan(graph, {"0": gone}, found.alone)
    leave_out(smaller, found.reasons)
    torch.testing.assert_close(net(images), expected)
    restore(graph)
    with torch.no_grad():
        for (module, key), mask in without_filters(smaller).items():
            module.get_parameter(key).masked_fill_(mask, 0)
    forget_statistics(smaller)
    assert torch.allclose(net(images), expected) == ("0" not in found.reasons)
    if reader != "plain":
        assert_same(net[3].state_dict(), before)


class Normalising(nn.Module):
    """It reads the weight of a layer by itself, and writes into it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3, bias=False), nn.Conv2d(6, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.b.weight.div_(self.b.weight.norm())
        return self.b(self.a(x).relu())  # type: ignore[no-any-return]


def test_a_weight_that_code_reads_by_itself_stays() -> None:
    net = Normalising()
    images, gone = torch.randn(2, 3, 9, 9), torch.arange(6) % 2 == 0
    graph = channel_graph(net)
    found = by_zeros(net, graph)
    assert (set(found.reasons), found.alone) == ({"b"} & set(found.reasons), {"b"})
    leave_out(plan(graph, {"a": gone}, found.alone), found.reasons)
    torch.testing.assert_close(copy.deepcopy(net)(images), net(images))
    assert copy.deepcopy(net).b.weight.all()


BETWEEN: dict[str, Callable[[], list[nn.Module]]] = {
    "moved, then mixed": lambda: [nn.Sigmoid(), nn.GroupNorm(2, 4)],
    "padded, then mixed": lambda: [nn.ConstantPad2d(1, 0.5), nn.LocalResponseNorm(3, alpha=1.0)],
    "two norms": lambda: [nn.GroupNorm(2, 4, affine=False), nn.GroupNorm(1, 4)],
    "moved, and zeros of that": lambda: [nn.Sigmoid(), nn.BatchNorm2d(4), nn.GroupNorm(2, 4)],
    "moved, and kept": lambda: [nn.Sigmoid(), nn.PReLU(4), nn.GroupNorm(2, 4)],
    "each by itself": lambda: [nn.Sigmoid(), nn.InstanceNorm2d(4, affine=True), nn.PReLU(4)],
    "nothing moved": lambda: [nn.ReLU(), nn.GroupNorm(2, 4), nn.LocalResponseNorm(3), nn.Sigmoid()],
}


@pytest.mark.parametrize("name", BETWEEN)
def test_norms_over_several_channels_need_zeros_where_there_are_zeros_for_them(name: str) -> None:
    """Else what is left out is in the statistics of the others: zeros in the parameters would be another network."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), *BETWEEN[name](), nn.Conv2d(4, 2, 1)).double().eval()
    for p in net.parameters():
        nn.init.uniform_(p, 0.1, 1)
    graph, images = channel_graph(net), torch.randn(2, 3, 6, 6, dtype=torch.float64)
    smaller = plan(graph, {"0": torch.tensor([True, False, False, True])})
    leave_out(smaller)
    expected = net(images)
    restore(graph)
    with torch.no_grad():
        for (module, key), mask in without_filters(smaller).items():
            module.get_parameter(key).masked_fill_(mask, 0)
    forget_statistics(smaller)
    assert torch.allclose(net(images), expected) == (not_by_zeros(net, graph) == {})


def test_the_reason_names_what_moves_zeros_and_who_needs_them() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sigmoid(), nn.GroupNorm(2, 4), nn.Conv2d(4, 2, 1))
    reason = "1 makes something else of zeros, where 2 has statistics over several channels"
    assert not_by_zeros(net, channel_graph(net)) == {"0": reason}


def test_statistics_of_what_is_left_out_are_forgotten() -> None:
    net = build("plain")
    before = copy.deepcopy(net.state_dict())
    forget_statistics(plan(channel_graph(net), {"a": torch.tensor([False, True, False, False])}))
    after = net.state_dict()
    assert (after["bn1.running_mean"][1], after["bn1.running_var"][1]) == (0, 1)
    for key, value in (("bn1.running_mean", 0), ("bn1.running_var", 1)):
        before[key][1] = value
    assert_same(after, before)


def test_set_zero_also_in_the_optimizer() -> None:
    parameter = nn.Parameter(torch.ones(4))
    optimizer = SGD([parameter], lr=0.1, momentum=0.9, weight_decay=0.1)
    mask = torch.tensor([True, False, False, True])
    for _ in range(2):
        parameter.grad = torch.ones(4)
        optimizer.step()
        set_zero(optimizer, parameter, mask)
        assert torch.equal(parameter == 0, mask)
        assert torch.equal(optimizer.state[parameter]["momentum_buffer"] == 0, mask)


def test_single_weights_of_all_convolutions_and_linear_layers() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    assert [layer.name for layer in single_weights(net, None)] == ["0", "3"]
    assert [layer.name for layer in single_weights(net, ["3"])] == ["3"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: "net", r"^model must be a torch\.nn\.Module, got 'str'$"),
        (lambda: nn.ReLU(), r"^ReLU has no convolution and no linear layer$"),
        (
            lambda: fs.expand(nn.Sequential(nn.Conv2d(3, 4, 3)), fs.KFLO()),
            r"^layer '0' cannot lose weights: it is expanded already",
        ),
    ],
    ids=["no network", "no layer", "expanded"],
)
def test_single_weights_that_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        single_weights(make(), None)
