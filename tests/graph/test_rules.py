"""What operations do to channels: what keeps them apart, what needs all of them, where no filter may go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from reference.calls import Calls
from reference.channel_graphs import conv, full, head, reads, reads_mixed, stays, then_read
from torch import Tensor, nn
from torch.nn import functional as F

from filtersmith.graph.channels import channel_graph
from filtersmith.graph.ops import Operation
from filtersmith.graph.rules import RULES


def joined(parts: Any) -> Tensor:
    return torch.cat([part * 2 for part in parts], 1)


def taken_apart(y: Tensor) -> Tensor:
    _, _, height, width = y.shape
    return F.adaptive_avg_pool2d(y, (height, width))


PASSES: dict[str, Callable[..., Any]] = {
    "functions": lambda s, y: F.dropout(F.max_pool2d(F.leaky_relu(y), 2), 0.5, s.training),
    "x * sigmoid(x)": lambda s, y: y * torch.sigmoid(y),
    "hard sigmoid": lambda s, y: F.hardsigmoid(y) * y,
    "x / 2 * 3": lambda s, y: y / 2 * 3,
    "subtracted from itself": lambda s, y: y - y.relu(),
    "a constant": lambda s, y: y + 1.0,
    "a constant before": lambda s, y: 1.0 - y,
    "sigmoid": lambda s, y: y.sigmoid(),
    "tanh, in place": lambda s, y: y.tanh_(),
    "padding": lambda s, y: F.pad(y, (1, 1, 2, 2)),
    "padding with ones": lambda s, y: F.pad(y, (1, 1), value=1.0),
    "pixels": lambda s, y: y[:, :, ::2, 1:],
    "size in space": lambda s, y: F.interpolate(y, size=y.shape[-2:]),
    "size in space, by slice": lambda s, y: F.interpolate(F.avg_pool2d(y, 2), size=y.size()[2:]),
    "one size": lambda s, y: F.adaptive_avg_pool2d(y, y.size(-1)),
    "sizes taken apart": lambda s, y: taken_apart(y),
    "sum() of one": lambda s, y: sum([y]),
}


@pytest.mark.parametrize("name", PASSES)
def test_what_keeps_channels_apart(name: str) -> None:
    graph = channel_graph(then_read(PASSES[name]))
    assert graph.reasons == {}
    assert "first" not in full(graph)
    assert reads(graph, "last", "first")


NEEDS_ALL: dict[str, tuple[Callable[..., Any], str]] = {
    "chunk": (lambda s, y: torch.cat(y.chunk(2, 1)[::-1], 1), "their places are written into the code"),
    "chunks of positions": (lambda s, y: torch.cat(y.chunk(2, 2), 3), "they enter chunk"),
    "some": (lambda s, y: y[:, [1, 0, 2, 3]], "they enter getitem"),
    "permuted": (lambda s, y: y.permute(0, 2, 3, 1).permute(0, 3, 1, 2), "they enter permute"),
    "softmax": (lambda s, y: y.softmax(1), "they enter softmax"),
    "norm over channels": (lambda s, y: y / y.norm(dim=1, keepdim=True), "they enter"),
    "padded channels": (lambda s, y: F.pad(y, (0, 0, 0, 0, 2, 2))[:, 2:6], "they enter pad"),
    "a sum": (lambda s, y: y + s.other(y), "they are added to others"),
    "a sum, by name": (lambda s, y: torch.add(input=y, other=s.other(y)), "they are added to others"),
    "a sum, in place": (lambda s, y: (y.add_(s.other(y)), y)[1], "they are added to others"),
    "a sum of all": (lambda s, y: sum([y, s.other(y)]), "they are added to others"),
    "a slice in place": (
        lambda s, y: (y[:, :2].relu_(), y + s.other(y))[1],
        "their places are written into the code",
    ),
    "a sum with x * sigmoid(x)": (lambda s, y: y * y.sigmoid() + s.other(y), "they are added to others"),
    "the input": (lambda s, y: y + s.other(y).mean(1, keepdim=True), "they are added to others"),
    "flat, and back": (lambda s, y: y.flatten(1).view(-1, 4, 6, 6), "they enter view"),
    "joined with the unknown": (
        lambda s, y: torch.cat([y, s.other(y).softmax(1)], 1)[:, :4],
        "they are joined with others",
    ),
}


NEEDS_ALL_AND_KEEPS_APART: dict[str, tuple[Callable[..., Any], str]] = {
    "width": (lambda s, y: F.adaptive_avg_pool2d(y, y.size(1)), "their number is read"),
    "width of the shape": (lambda s, y: F.adaptive_avg_pool2d(y, y.shape[1]), "their number is read"),
    "width, by a slice": (lambda s, y: F.interpolate(y, size=y.shape[1:3]), "their number is read"),
    "the whole shape": (lambda s, y: y + torch.zeros(y.shape), "their number is read"),
    "a parameter": (lambda s, y: y * s.scale + s.scale, "they meet a parameter"),
    "split": (lambda s, y: joined(y.split([1, 3], 1)), "their places are written into the code"),
    "chunks": (lambda s, y: joined(torch.chunk(y, 2, dim=-3)), "their places are written into the code"),
    "tensor_split": (lambda s, y: joined(y.tensor_split(3, 1)), "their places are written into the code"),
    "slices": (lambda s, y: joined([y[:, :1], y[:, 1:, :6], y[:, 4:]][:2]), "their places are written into the code"),
}


@pytest.mark.parametrize("name", [*NEEDS_ALL, *NEEDS_ALL_AND_KEEPS_APART])
def test_what_needs_all_channels_gets_zeros(name: str) -> None:
    forward, why = (NEEDS_ALL | NEEDS_ALL_AND_KEEPS_APART)[name]
    network = then_read(forward, other=conv(4))
    network.scale = nn.Parameter(torch.ones(4, 1, 1))
    graph = channel_graph(network)
    assert full(graph)["first"].startswith(why)
    assert not stays(graph)
    if name in NEEDS_ALL_AND_KEEPS_APART:
        assert [f for run in graph.sites["last"].inputs for f in range(4)[run.of]] == [0, 1, 2, 3]
        assert {run.producer for run in graph.sites["last"].inputs} == {"first"}
    else:
        assert "last" not in graph.sites or reads_mixed(graph, "last")


REFUSED: dict[str, tuple[Callable[..., Any], str]] = {
    "sigmoid before a sum": (lambda s, y: y.sigmoid() + s.other(y), "zeros in its place would not be zeros"),
    "softplus before softmax": (lambda s, y: F.softplus(y).softmax(1), "where they enter softmax"),
    "a constant before a sum": (lambda s, y: (y + 1) + s.other(y), "zeros in its place"),
    "exp before chunk": (lambda s, y: torch.cat(y.exp().chunk(2, 1), 1), "where they enter cat"),
    "batch norm apart, before a sum": (lambda s, y: s.bn(y.relu()) + s.other(y), "zeros in its place"),
    "depthwise apart, before a sum": (lambda s, y: s.depthwise(y.relu()) + s.other(y), "zeros in its place"),
    "in place, before a sum": (lambda s, y: (y.sigmoid_(), y + s.other(y))[1], "zeros in its place"),
    "batch norm twice": (lambda s, y: s.bn(s.bn(y)), "bn cannot leave channels out"),
    "batch norm by name": (lambda s, y: s.bn(input=y), "bn cannot leave channels out"),
    "depthwise twice": (lambda s, y: s.depthwise(s.depthwise(y)), "depthwise cannot leave channels out"),
    "batch norm as a function": (lambda s, y: F.batch_norm(y, None, None, s.bn.weight, training=True), "no module"),
    "a layer norm of features": (
        lambda s, y: F.layer_norm(y.flatten(1), (144,))[:, :, None, None],
        "they enter layer_norm",
    ),
    "a layer norm of images": (lambda s, y: s.norm(y), "they enter norm"),
    "written into a slice": (lambda s, y: (y[:, :2].add_(1.0), y + s.other(y))[1], "a part of them is written into"),
    "written into a view": (lambda s, y: (y.flatten(2).exp_(), y + s.other(y))[1], "a part of them is written into"),
    "a product": (lambda s, y: y * s.other(y), "multiplied by others"),
    "a product, by name": (lambda s, y: torch.mul(input=y, other=s.other(y)), "multiplied by others"),
    "its weight is read": (lambda s, y: y + s.first.weight.mean(), "its parameters are read by themselves"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    forward, why = REFUSED[name]
    depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
    network = then_read(
        forward, other=conv(4), bn=nn.BatchNorm2d(4), depthwise=depthwise, norm=nn.LayerNorm([4, 6, 6])
    )
    graph = channel_graph(network)
    assert why in graph.reasons["first"]
    assert "last" not in graph.reasons


def test_which_of_two_summed_branches_is_the_shortcut() -> None:
    """A 1x1 convolution beside others; not one that is the branch itself, nor one of two alike."""
    point = {name: nn.Conv2d(4, 4, 1) for name in ("one", "two")}
    modules = {"stem": conv(3), "three": conv(4), "last": conv(4), "head": head()}

    def shortcuts(forward: Callable[..., Any]) -> set[str]:
        network = Calls(lambda s, x: s.head(s.last(forward(s, s.stem(x)))), **modules, **point)
        return stays(channel_graph(network))

    assert shortcuts(lambda s, x: s.one(x) + s.three(x)) == {"one"}
    assert shortcuts(lambda s, x: s.three(x) + F.avg_pool2d(s.one(x), 1)) == {"one"}
    assert shortcuts(lambda s, x: s.one(x) + s.two(s.three(x))) == {"one"}
    assert shortcuts(lambda s, x: x + s.one(x)) == set()
    assert shortcuts(lambda s, x: s.one(x) + s.two(x)) == set()


def test_squeeze_and_excitation() -> None:
    def forward(s: Any, x: Tensor) -> Any:
        y = F.relu(s.bn(s.conv(s.before(x))))
        gate = torch.sigmoid(s.expand(F.relu(s.squeeze(F.adaptive_avg_pool2d(y, 1)))))
        return s.head(s.after(y * gate) + x.mean(1, keepdim=True))

    network = Calls(
        forward,
        before=conv(3),
        conv=conv(4),
        bn=nn.BatchNorm2d(4),
        squeeze=nn.Conv2d(4, 2, 1),
        expand=nn.Conv2d(2, 4, 1),
        after=conv(4),
        head=head(),
    )
    graph = channel_graph(network)
    assert stays(graph) == {"conv", "squeeze", "expand"}
    assert graph.reasons["conv"] == "its outputs are multiplied by others (squeeze and excitation)"
    assert "makes a gate" in graph.reasons["squeeze"]


@pytest.mark.parametrize(
    ("forward", "why"),
    [
        (lambda s, y: F.pad(y, (0, 0, 1, 1)), "they enter pad"),
        (lambda s, y: y.mean(-2, keepdim=True) + y, "they enter mean"),
        (lambda s, y: F.avg_pool2d(y, 3, 1, 1), "they enter avg_pool2d"),
        (lambda s, y: s.pool2d(y), "they enter pool2d"),
        (lambda s, y: F.adaptive_avg_pool1d(y, y.shape[-2]), "their number is read"),
    ],
)
def test_the_last_but_one_dimension_of_a_sequence_is_the_channels(forward: Callable[..., Any], why: str) -> None:
    network = Calls(
        lambda s, x: s.fc(s.last(forward(s, s.first(x))).mean(2)), first=nn.Conv1d(2, 4, 3), fc=nn.Linear(2, 2)
    )
    network.last, network.pool2d = nn.Conv1d(6 if "pad" in why else 4, 2, 1), nn.MaxPool2d(3, 1, 1)
    graph = channel_graph(network)
    assert full(graph)["first"] == why
    assert not stays(graph)


# --- flat features ---------------------------------------------------------------------------------------------


FLAT: dict[str, tuple[Callable[..., Any], str | None]] = {
    "flatten": (lambda y: y.flatten(1), None),
    "function": (lambda y: torch.flatten(F.relu(y), 1), None),
    "view": (lambda y: y.view(y.size(0), -1), None),
    "reshape": (lambda y: y.reshape(y.shape[0], -1), None),
    "view of known size": (lambda y: y.view(y.size(0), 512), "their number is written into the code"),
    "flat in space first": (lambda y: y.flatten(2).flatten(1), None),
    "view of computed size": (lambda y: y.view(y.size(0), y.size(1) * 128), "their number"),
}


POOLED: dict[str, tuple[Callable[..., Any], str | None]] = {
    "mean": (lambda y: y.mean((2, 3)), None),
    "mean twice": (lambda y: y.mean(3).mean(2), None),
    "mean, from behind": (lambda y: y.mean([-1, -2]), None),
    "mean, kept": (lambda y: torch.mean(y, dim=(2, 3), keepdim=True).flatten(1), None),
    "squeezed": (lambda y: F.adaptive_avg_pool2d(y, 1).squeeze(3).squeeze(2), None),
    "view of pooled": (lambda y: F.adaptive_avg_pool2d(y, 1).view(-1, 4), "their number is written into the code"),
}


@pytest.mark.parametrize("name", [*FLAT, *POOLED])
def test_linear_layers(name: str) -> None:
    forward, why = (FLAT | POOLED)[name]
    fc = nn.Linear(512 if name in FLAT else 4, 2)
    graph = channel_graph(Calls(lambda s, x: s.fc(F.dropout(forward(s.conv(x)))), conv=conv(3), fc=fc))
    assert "conv" not in graph.reasons
    assert reads(graph, "fc", "conv")
    assert graph.sites["fc"].role == "consumer"
    assert full(graph).get("conv", "").startswith(why or "")
    assert ("conv" in full(graph)) == (why is not None)


@pytest.mark.parametrize(
    ("forward", "features"),
    [
        (lambda y: y, 8),  # the last dimension is space
        (lambda y: y.mean(3), 8),
        (lambda y: y.mean((1, 2)), 8),
        (lambda y: y.view(-1, 512), 512),  # the code does not say that this is a row for each image
        (lambda y: y.view(2, -1), 512),
        (lambda y: F.adaptive_avg_pool2d(y, 1).squeeze(), 4),  # of one image it takes the batch, too
        (lambda y: (lambda v: v - v.mean(-1, keepdim=True))(y.flatten(1)), 256),
    ],
)
def test_linear_layers_that_do_not_read_blocks(forward: Callable[..., Any], features: int) -> None:
    network = Calls(lambda s, x: s.fc(forward(s.conv(x))), conv=conv(3), fc=nn.Linear(features, 2))
    graph = channel_graph(network)
    assert full(graph).get("conv", "").startswith("they enter")
    assert "conv" not in graph.reasons
    assert graph.consumers == {"conv": []}


def test_batch_norm_of_features() -> None:
    def network(of: int) -> nn.Module:
        pool = nn.AdaptiveAvgPool2d(1) if of == 4 else nn.Identity()
        return nn.Sequential(conv(3), pool, nn.Flatten(), nn.BatchNorm1d(of), nn.Linear(of, 2))

    graph = channel_graph(network(4))
    assert not stays(graph) | full(graph).keys()
    assert graph.sites["3"].role == "per-channel"
    assert "3 cannot leave channels out" in channel_graph(network(64)).reasons["0"]


def test_outputs_of_the_network() -> None:
    fully = nn.Sequential(
        conv(3), nn.ReLU(), conv(4), nn.ReLU(), nn.Conv2d(4, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    assert channel_graph(fully).reasons == {"4": "its outputs are the network's"}
    both = Calls(
        lambda s, x: {"features": (y := F.relu(s.one(x))), "scores": s.head(s.two(y))}, one=conv(3), two=conv(4)
    )
    both.head = head()
    assert stays(channel_graph(both)) == {"one"}


def test_a_reader_of_another_width_is_no_reader() -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x, x], 1)

    graph = channel_graph(nn.Sequential(conv(3), nn.ConstantPad3d((0, 0, 0, 0, 2, 2), 0), conv(8), head()))
    assert full(graph)["0"] == "they enter 1"
    assert "2" not in graph.sites
    graph = channel_graph(nn.Sequential(conv(3), Twice(), conv(8), head()))
    assert reads(graph, "2", "0", "0")
    assert not stays(graph) | full(graph).keys()


def test_every_kind_of_operation_has_a_rule() -> None:
    assert set(Operation) | {None, "placeholder", "get_attr", "output"} == set(RULES)
