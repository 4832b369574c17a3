"""Where channels go, in networks of every kind. What is expected is written by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from reference.calls import Calls
from reference.nets import assert_same
from torch import Tensor, nn
from torch.nn import functional as F

from filtersmith import zoo
from filtersmith.graph.channels import ChannelGraph, Producer
from filtersmith.graph.flow import Run, producers_of

FILTERS = 4


def conv(inputs: int, filters: int = FILTERS, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, filters, 3, padding=1, **options)


def stays(graph: ChannelGraph) -> set[str]:
    """The producers whose filters cannot be left out."""
    return {name for name in graph.producers if name in graph.reasons}


def full(graph: ChannelGraph) -> set[str]:
    """The producers whose channels all have to be there."""
    return {name for name, producer in graph.producers.items() if producer.full_width_reason is not None}


def reads(graph: ChannelGraph, site: str, *names: str) -> bool:
    """Whether all filters of the named convolutions, one after the other, are what a module reads."""
    return graph.sites[site].inputs == tuple(Run(name, graph.producers[name].filters) for name in names)


def reads_mixed(graph: ChannelGraph, site: str) -> bool:
    """Whether a module reads channels that no filter makes alone."""
    return not producers_of(graph.sites[site].inputs)


def value(graph: ChannelGraph, producer: Producer) -> str:
    """The module or function at the end of which a producer's activation stands."""
    assert producer.activation is not None
    number, node = producer.activation
    assert node in graph.parts[number].graph.nodes
    return str(node.target) if isinstance(node.target, str) else node.target.__name__


def ends(graph: ChannelGraph) -> dict[str, str]:
    return {name: producer.end for name, producer in graph.producers.items()}


# --- the networks of the papers ---------------------------------------------------------------------------


def test_plain_network() -> None:
    channels, producers = named(zoo.build("vanilla-2-4", image_size=4))
    assert list(producers) == ["features.0", "features.3"]
    assert not refused(producers) | whole(producers)
    assert channels.unseen == {}
    assert [producer.filters for producer in channels.producers] == [4, 4]
    assert [producer.end for producer in channels.producers] == ["features.2", "features.5"]
    assert [value(channels, producer) for producer in channels.producers] == ["features.2", "features.5"]
    found = {
        site.name: (site.role, site.within, producer_of(site.inputs).tolist()) for site in channels.sites.values()
    }
    assert found == {
        "features.1": ("follower", 0, [0] * 4),
        "features.2": ("passing", 0, [0] * 4),
        "features.3": ("convolution", -1, [0] * 4),
        "features.4": ("follower", 1, [1] * 4),
        "features.5": ("passing", 1, [1] * 4),
        "fc": ("linear", -1, [1] * 4),
    }
    assert reads(channels, "fc", "features.3")


def test_residual_network() -> None:
    channels, producers = named(zoo.build("resnet20"))
    blocks = [f"layer{stage}.{block}" for stage in (1, 2, 3) for block in (0, 1, 2)]
    assert list(producers) == ["conv1", *(f"{block}.conv{n}" for block in blocks for n in (1, 2))]
    assert not refused(producers)
    # What enters a sum keeps its width, also under shortcuts that take pixels out and pad channels.
    assert whole(producers) == {"conv1", *(f"{block}.conv2" for block in blocks)}
    for name, producer in producers.items():
        assert producer.end == name.replace("conv", "bn")
        assert value(channels, producer) == (producer.end if name.endswith(".conv2") else "relu")
    assert reads(channels, "layer1.0.conv1", "conv1")
    assert reads(channels, "layer3.2.conv2", "layer3.2.conv1")
    for mixed in (*(f"{block}.conv1" for block in blocks[1:]), "fc"):
        assert set(channels.sites[mixed].inputs.tolist()) == {-1}


def test_pre_activated_network() -> None:
    channels, producers = named(zoo.build("wrn-10-1"))
    assert list(producers) == [
        "conv1",
        *("layer1.0.conv1", "layer1.0.conv2"),
        *("layer2.0.projection", "layer2.0.conv1", "layer2.0.conv2"),
        *("layer3.0.projection", "layer3.0.conv1", "layer3.0.conv2"),
    ]
    assert refused(producers) == {"layer2.0.projection", "layer3.0.projection"}
    assert "1x1 projection of a shortcut" in (producers["layer2.0.projection"].refusal or "")
    assert whole(producers) >= {"conv1", "layer1.0.conv2", "layer2.0.conv2", "layer3.0.conv2"}
    for name in ("layer1.0", "layer2.0", "layer3.0"):
        assert producers[f"{name}.conv1"].whole is None
        assert producers[f"{name}.conv1"].end == f"{name}.bn2"
        assert value(channels, producers[f"{name}.conv1"]) == "relu"
        assert producers[f"{name}.conv2"].end == value(channels, producers[f"{name}.conv2"]) == f"{name}.conv2"
        assert reads(channels, f"{name}.conv2", f"{name}.conv1")
    assert producers["conv1"].end == "conv1"
    assert reads(channels, "layer1.0.bn1", "conv1")
    assert channels.sites["layer1.0.bn1"].within == -1
    assert reads(channels, "layer1.0.conv1", "conv1")


def test_which_of_two_summed_branches_is_the_shortcut() -> None:
    """A 1x1 convolution beside others; not one that is the branch itself, nor one of two alike."""
    point = {name: nn.Conv2d(4, 4, 1) for name in ("one", "two")}
    modules = {"stem": conv(3), "three": conv(4), "last": conv(4), "head": head()}

    def shortcuts(forward: Callable[..., Any]) -> set[str]:
        network = Calls(lambda s, x: s.head(s.last(forward(s, s.stem(x)))), **modules, **point)
        return refused(named(network)[1])

    assert shortcuts(lambda s, x: s.one(x) + s.three(x)) == {"one"}
    assert shortcuts(lambda s, x: s.three(x) + F.avg_pool2d(s.one(x), 1)) == {"one"}
    assert shortcuts(lambda s, x: s.one(x) + s.two(s.three(x))) == {"one"}
    assert shortcuts(lambda s, x: x + s.one(x)) == set()
    assert shortcuts(lambda s, x: s.one(x) + s.two(x)) == set()


class DenseLayer(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, 6, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(6), conv(6, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv2(F.relu(self.bn2(self.conv1(F.relu(self.bn1(x))))))], 1)


def test_dense_network() -> None:
    modules = {"stem": conv(3), "one": DenseLayer(4), "two": DenseLayer(7), "transition": nn.Conv2d(10, 5, 1)}
    network = Calls(
        lambda s, x: s.fc(F.avg_pool2d(s.transition(s.two(s.one(s.stem(x)))), 2).mean((2, 3))),
        **modules,
        fc=nn.Linear(5, 2),
    )
    channels, producers = named(network)
    assert list(producers) == ["stem", "one.conv1", "one.conv2", "two.conv1", "two.conv2", "transition"]
    assert not refused(producers) | whole(producers)
    assert reads(channels, "one.bn1", "stem")
    for reader in ("two.bn1", "two.conv1"):
        assert reads(channels, reader, "stem", "one.conv2")
    assert reads(channels, "transition", "stem", "one.conv2", "two.conv2")
    assert reads(channels, "fc", "transition")
    assert channels.sites["two.bn1"].within == -1
    assert channels.sites["two.bn2"].within == 3
    ends = {name: producer.end for name, producer in producers.items()}
    assert ends == {name: name for name in producers} | {"one.conv1": "one.bn2", "two.conv1": "two.bn2"}


@pytest.mark.parametrize(
    ("name", "producers_", "depthwise", "refusals"),
    [
        ("resnet18", 20, 0, {"layer2.0.downsample.0", "layer3.0.downsample.0", "layer4.0.downsample.0"}),
        ("mobilenet_v2", 1 + 1 + 2 * 16 + 1, 17, set()),
        ("densenet121", 1 + 2 * (6 + 12 + 24 + 16) + 3, 0, set()),
        ("googlenet", 3 + 6 * 9 + 2, 0, set()),
    ],
)
def test_networks_of_torchvision(name: str, producers_: int, depthwise: int, refusals: set[str]) -> None:
    models = pytest.importorskip("torchvision.models")
    options = {"init_weights": False, "aux_logits": True} if name == "googlenet" else {}
    with torch.device("meta"):
        network = getattr(models, name)(**options)
    channels, producers = named(network)
    assert (len(producers), len(channels.unseen)) == (producers_, depthwise)
    assert refused(producers) == refusals
    assert all("depthwise" in reason for reason in channels.unseen.values())
    if name == "mobilenet_v2":
        # Expansion, depthwise and their batch norms are one row of channels, up to the projection.
        assert producers["features.2.conv.0.0"].end == "features.2.conv.1.2"
        assert whole(producers) == {f"features.{n}.conv.2" for n in (3, 5, 6, 8, 9, 10, 12, 13, 15, 16)} | {
            f"features.{n}.conv.{1 if n == 1 else 2}" for n in (2, 4, 7, 11, 14)
        }
    if name == "googlenet":
        auxiliary = [name for name, producer in producers.items() if producer.activation is None]
        assert auxiliary == ["aux1.conv.conv", "aux2.conv.conv"], "heads that only training has"
        branches = [f"inception3a.branch{n}.conv" for n in ("1", "2.1", "3.1", "4.1")]
        assert reads(channels, "inception3b.branch1.conv", *branches)


# --- what may lose filters, and what may not -----------------------------------------------------------------


def then_read(forward: Callable[..., Any], filters: int = FILTERS, **modules: nn.Module) -> Calls:
    """``first``, a function of its output, and a convolution that reads the result."""
    return Calls(lambda s, x: s.pool(s.last(forward(s, s.first(x)))), first=conv(3), last=conv(filters), **modules)


def head(filters: int = FILTERS) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(filters, 2))


def of_first(forward: Callable[..., Any], filters: int = FILTERS, **modules: nn.Module) -> tuple[Any, Channels]:
    network = then_read(forward, filters, pool=head(), **modules)
    channels, producers = named(network)
    assert producers["last"].refusal is None
    return producers["first"], channels


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
    first, channels = of_first(PASSES[name])
    assert (first.whole, first.refusal) == (None, None)
    assert reads(channels, "last", "first")


NEEDS_ALL: dict[str, tuple[Callable[..., Any], str]] = {
    "chunk": (lambda s, y: torch.cat(y.chunk(2, 1)[::-1], 1), "they enter chunk"),
    "split": (lambda s, y: torch.cat(y.split([1, 3], 1), 1), "they enter split"),
    "some": (lambda s, y: y[:, [1, 0, 2, 3]], "they enter getitem"),
    "permuted": (lambda s, y: y.permute(0, 2, 3, 1).permute(0, 3, 1, 2), "they enter permute"),
    "softmax": (lambda s, y: y.softmax(1), "they enter softmax"),
    "norm over channels": (lambda s, y: y / y.norm(dim=1, keepdim=True), "they enter"),
    "padded channels": (lambda s, y: F.pad(y, (0, 0, 0, 0, 2, 2))[:, 2:6], "they enter pad"),
    "the whole shape": (lambda s, y: y + torch.zeros(y.shape), "their number is read"),
    "a sum": (lambda s, y: y + s.other(y), "they are added to others"),
    "a sum, by name": (lambda s, y: torch.add(input=y, other=s.other(y)), "they are added to others"),
    "a sum, in place": (lambda s, y: (y.add_(s.other(y)), y)[1], "they are added to others"),
    "a sum of all": (lambda s, y: sum([y, s.other(y)]), "they are added to others"),
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
    "a parameter": (lambda s, y: y * s.scale + s.scale, "they meet a parameter"),
}


@pytest.mark.parametrize("name", [*NEEDS_ALL, *NEEDS_ALL_AND_KEEPS_APART])
def test_what_needs_all_channels_gets_zeros(name: str) -> None:
    forward, why = (NEEDS_ALL | NEEDS_ALL_AND_KEEPS_APART)[name]
    network = then_read(forward, pool=head(), other=conv(4))
    network.scale = nn.Parameter(torch.ones(4, 1, 1))
    channels, producers = named(network)
    assert producers["first"].refusal is None
    assert (producers["first"].whole or "").startswith(why)
    assert not refused(producers)
    if name in NEEDS_ALL_AND_KEEPS_APART:
        assert reads(channels, "last", "first")
    else:
        assert "last" not in channels.sites or set(channels.sites["last"].inputs.tolist()) == {-1}


REFUSED: dict[str, tuple[Callable[..., Any], str]] = {
    "sigmoid before a sum": (lambda s, y: y.sigmoid() + s.other(y), "zeros in its place would not be zeros"),
    "softplus before softmax": (lambda s, y: F.softplus(y).softmax(1), "where they enter softmax"),
    "a constant before a sum": (lambda s, y: (y + 1) + s.other(y), "zeros in its place"),
    "exp before chunk": (lambda s, y: torch.cat(y.exp().chunk(2, 1), 1), "where they enter chunk"),
    "batch norm apart, before a sum": (lambda s, y: s.bn(y.relu()) + s.other(y), "zeros in its place"),
    "depthwise apart, before a sum": (lambda s, y: s.depthwise(y.relu()) + s.other(y), "zeros in its place"),
    "in place, before a sum": (lambda s, y: (y.sigmoid_(), y + s.other(y))[1], "zeros in its place"),
    "batch norm twice": (lambda s, y: s.bn(s.bn(y)), "bn cannot leave channels out"),
    "batch norm by name": (lambda s, y: s.bn(input=y), "bn cannot leave channels out"),
    "depthwise twice": (lambda s, y: s.depthwise(s.depthwise(y)), "depthwise cannot leave channels out"),
    "batch norm as a function": (lambda s, y: F.batch_norm(y, None, None, training=True), "no module"),
    "a product": (lambda s, y: y * s.other(y), "multiplied by others"),
    "a product, by name": (lambda s, y: torch.mul(input=y, other=s.other(y)), "multiplied by others"),
    "its weight is read": (lambda s, y: y + s.first.weight.mean(), "its parameters are read by themselves"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    forward, why = REFUSED[name]
    depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
    network = then_read(forward, pool=head(), other=conv(4), bn=nn.BatchNorm2d(4), depthwise=depthwise)
    _, producers = named(network)
    assert why in (producers["first"].refusal or "")
    assert producers["last"].refusal is None


def test_what_moves_zeros_is_no_harm_where_it_ends_the_row() -> None:
    """Zeros are put in behind it."""
    network = then_read(lambda s, y: s.gate(s.bn(y)) + s.other(y).relu(), pool=head(), other=conv(4))
    network.bn, network.gate = nn.BatchNorm2d(4), nn.Sigmoid()
    assert refused(named(network)[1]) == {"first"}, "others read what it makes, too"
    network.run = lambda s, x: s.pool(s.last(s.gate(s.bn(s.first(x))) + s.other(x)))
    network.other = conv(3)
    channels, producers = named(network)
    assert not refused(producers)
    assert (producers["first"].end, value(channels, producers["first"])) == ("gate", "gate")
    assert producers["first"].whole is not None


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
    _, producers = named(network)
    assert refused(producers) == {"conv", "squeeze", "expand"}
    assert producers["conv"].refusal == "its outputs are multiplied by others (squeeze and excitation)"
    assert "makes a gate" in (producers["squeeze"].refusal or "")


def test_kinds_of_convolutions() -> None:
    network = nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU6(),
        nn.Conv2d(4, 8, 3, groups=4),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        nn.Conv2d(8, 6, 3, groups=2),
        nn.ConvTranspose2d(6, 4, 2, groups=2),
        nn.ConvTranspose2d(4, 3, 2),
        head(3),
    )
    channels, producers = named(network)
    assert list(producers) == ["0", "6", "7", "8"]
    assert channels.unseen == {"3": "it is depthwise: its filters go with the channels that they read"}
    assert not refused(producers) | whole(producers)
    assert {name: producer.end for name, producer in producers.items()} == {"0": "5", "6": "6", "7": "7", "8": "9.0"}
    assert value(channels, producers["0"]) == "2"
    assert [producer.filters for producer in channels.producers] == [4, 6, 4, 3]
    doubled = [n for n in origins(channels, "0") for _ in range(2)]
    assert channels.sites["3"].outputs.tolist() == channels.sites["4"].inputs.tolist() == doubled
    assert channels.sites["6"].inputs.tolist() == doubled
    roles = {name: (site.role, site.within) for name, site in channels.sites.items()}
    followers = {name: ("follower", 0) for name in "134"} | {name: ("passing", 0) for name in "25"}
    readers = {name: ("convolution", -1) for name in "678"}
    assert roles == followers | readers | {"9.0": ("passing", 3), "9.2": ("linear", -1)}


@pytest.mark.parametrize("dims", [1, 3])
def test_other_dimensions(dims: int) -> None:
    of: dict[str, Any] = {name: getattr(nn, f"{name}{dims}d") for name in ("Conv", "BatchNorm", "MaxPool")}
    network = nn.Sequential(
        of["Conv"](1, 4, 3), of["BatchNorm"](4), nn.ReLU(), of["MaxPool"](2), of["Conv"](4, 2, 1), nn.Flatten(),
        nn.Linear(2 * 2**dims, 3),
    )  # fmt: skip
    channels, producers = named(network)
    assert not refused(producers) | whole(producers)
    assert (producers["0"].end, value(channels, producers["0"])) == ("3", "2")
    assert reads(channels, "6", "4")


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
    _, producers = named(network)
    assert producers["first"].whole == why
    assert not refused(producers)


# --- flat features -------------------------------------------------------------------------------------------

FLAT: dict[str, tuple[Callable[..., Any], str | None]] = {
    "flatten": (lambda y: y.flatten(1), None),
    "function": (lambda y: torch.flatten(F.relu(y), 1), None),
    "view": (lambda y: y.view(y.size(0), -1), None),
    "reshape": (lambda y: y.reshape(y.shape[0], -1), None),
    "view of known size": (lambda y: y.view(-1, 512), "their number is written into the code"),
    "view of computed size": (lambda y: y.view(y.size(0), y.size(1) * 128), "their number"),
}
POOLED: dict[str, tuple[Callable[..., Any], str | None]] = {
    "mean": (lambda y: y.mean((2, 3)), None),
    "mean twice": (lambda y: y.mean(3).mean(2), None),
    "mean, from behind": (lambda y: y.mean([-1, -2]), None),
    "mean, kept": (lambda y: torch.mean(y, dim=(2, 3), keepdim=True).flatten(1), None),
    "squeezed": (lambda y: F.adaptive_avg_pool2d(y, 1).squeeze(3).squeeze(2), None),
    "squeezed of all": (lambda y: F.adaptive_avg_pool2d(y, 1).squeeze(), "their number"),
}


@pytest.mark.parametrize("name", [*FLAT, *POOLED])
def test_linear_layers(name: str) -> None:
    forward, why = (FLAT | POOLED)[name]
    fc = nn.Linear(512 if name in FLAT else 4, 2)
    channels, producers = named(Calls(lambda s, x: s.fc(F.dropout(forward(s.conv(x)))), conv=conv(3), fc=fc))
    assert producers["conv"].refusal is None
    assert reads(channels, "fc", "conv")
    assert channels.sites["fc"].role == "linear"
    assert (producers["conv"].whole or "").startswith(why or "")
    assert (producers["conv"].whole is None) == (why is None)


@pytest.mark.parametrize(
    ("forward", "features"),
    [
        (lambda y: y, 8),  # the last dimension is space
        (lambda y: y.mean(3), 8),
        (lambda y: y.mean((1, 2)), 8),
        (lambda y: y.flatten(2).flatten(1), 256),
        (lambda y: (lambda v: v - v.mean(-1, keepdim=True))(y.flatten(1)), 256),
        (lambda y: F.layer_norm(y.flatten(1), (256,)), 256),
    ],
)
def test_linear_layers_that_do_not_read_blocks(forward: Callable[..., Any], features: int) -> None:
    network = Calls(lambda s, x: s.fc(forward(s.conv(x))), conv=conv(3), fc=nn.Linear(features, 2))
    channels, producers = named(network)
    assert (producers["conv"].whole or "").startswith("they enter")
    assert producers["conv"].refusal is None
    assert not torch.isin(
        torch.tensor(origins(channels, "conv")), getattr(channels.sites.get("fc"), "inputs", torch.tensor([]))
    ).any()


def test_batch_norm_of_features() -> None:
    def network(of: int) -> nn.Module:
        pool = nn.AdaptiveAvgPool2d(1) if of == 4 else nn.Identity()
        return nn.Sequential(conv(3), pool, nn.Flatten(), nn.BatchNorm1d(of), nn.Linear(of, 2))

    channels, producers = named(network(4))
    assert not refused(producers) | whole(producers)
    assert channels.sites["3"].role == "follower"
    assert "3 cannot leave channels out" in (named(network(64))[1]["0"].refusal or "")


# --- rows of modules -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "middle",
    [nn.GroupNorm(2, 4), nn.PReLU(4), nn.InstanceNorm2d(4, affine=True), nn.LocalResponseNorm(2)],
    ids=lambda module: type(module).__name__,
)
def test_parameters_and_statistics_of_several_channels(middle: nn.Module) -> None:
    channels, producers = named(nn.Sequential(conv(3), middle, nn.ReLU(), conv(4), head()))
    assert not refused(producers) | whole(producers)
    assert producers["0"].end == "2"
    assert value(channels, producers["0"]) == ("1" if isinstance(middle, nn.PReLU) else "2")
    assert (channels.sites["1"].role, channels.sites["1"].within) == ("passing", 0)


def test_an_activation_used_in_several_places() -> None:
    relu = nn.ReLU()
    network = nn.Sequential(conv(3), nn.BatchNorm2d(4), relu, conv(4), nn.BatchNorm2d(4), relu, head())
    channels, producers = named(network)
    assert not refused(producers) | whole(producers)
    assert {name: producer.end for name, producer in producers.items()} == {"0": "1", "3": "4"}
    assert [value(channels, producer) for producer in channels.producers] == ["2", "2"]
    assert reads(channels, "6.2", "3")


def test_a_pool_that_also_tells_where() -> None:
    pool = nn.MaxPool2d(2, return_indices=True)
    network = Calls(lambda s, x: s.head(s.last(s.pool(s.first(x))[0])), first=conv(3), pool=pool, last=conv(4))
    network.head = head()
    _, producers = named(network)
    assert producers["first"].end == "first"
    assert producers["first"].whole == "they enter pool"


def test_a_convolution_called_twice() -> None:
    network = nn.Sequential(conv(3), nn.ReLU(), (twice := conv(4)), nn.ReLU(), twice, conv(4), head())
    _, producers = named(network)
    assert refused(producers) == {"2"}
    assert producers["2"].refusal == "it is called several times"
    assert producers["0"].whole == "they enter 2"


def test_outputs_of_the_network() -> None:
    fully = nn.Sequential(
        conv(3), nn.ReLU(), conv(4), nn.ReLU(), nn.Conv2d(4, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    _, producers = named(fully)
    assert {name: producer.refusal for name, producer in producers.items()} == {
        "0": None, "2": None, "4": "its outputs are the network's"
    }  # fmt: skip
    both = Calls(
        lambda s, x: {"features": (y := F.relu(s.one(x))), "scores": s.head(s.two(y))}, one=conv(3), two=conv(4)
    )
    both.head = head()
    assert refused(named(both)[1]) == {"one"}


# --- training and evaluation, and what cannot be traced ------------------------------------------------------------


def test_an_auxiliary_head_of_training() -> None:
    def forward(s: Any, x: Tensor) -> Any:
        y = s.one(x)
        z = s.head(s.two(y))
        return (z, s.aux_head(s.aux(y))) if s.training else z

    modules = {"one": conv(3), "two": conv(4), "head": head(), "aux": conv(4), "aux_head": head()}
    channels, producers = named(Calls(forward, **modules))
    assert list(producers) == ["one", "two", "aux"]
    assert not refused(producers) | whole(producers)
    assert reads(channels, "aux", "one")
    assert producers["aux"].activation is None
    # A sum that only training has needs all channels all the same.
    network = Calls(
        lambda s, x: s.head(
            s.two(y + y.mean(1, keepdim=True) if s.training else y) if (y := s.one(x)) is not None else y
        ),
        **modules,
    )
    assert whole(named(network)[1]) == {"one"}


def test_other_channels_in_training_than_in_evaluation() -> None:
    def forward(s: Any, x: Tensor) -> Any:
        return s.head(s.last(s.one(x) if s.training else s.two(x)))

    _, producers = named(Calls(forward, one=conv(3), two=conv(3), last=conv(4), head=head()))
    assert refused(producers) == {"one", "two"}
    assert "in training than in evaluation" in (producers["one"].refusal or "")


def test_parts_of_a_network_that_cannot_be_traced() -> None:
    def forward(s: Any, x: Tensor) -> Any:
        y = s.stem(x)
        if y.sum() > 0:
            y = s.body(y)
        return s.head(s.own(y))

    body = nn.Sequential(conv(4), nn.BatchNorm2d(4), nn.ReLU(), conv(4), nn.ReLU())
    network = Calls(forward, stem=nn.Sequential(conv(3), nn.ReLU()), body=body, own=conv(4), head=head())
    channels, producers = named(network)
    assert list(producers) == ["stem.0", "body.0", "body.3"]
    assert refused(producers) == {"stem.0", "body.3"}
    assert "leave the part of the network" in (producers["body.3"].refusal or "")
    assert channels.unseen == {"own": "it is called by code that torch.fx cannot trace"}
    assert reads(channels, "body.3", "body.0")
    assert producers["body.0"].end == "body.2"
    assert value(channels, producers["body.0"]) == "2"
    number, _ = producers["body.0"].activation or (-1, None)
    assert channels.graphs[number].prefix == "body."


class Counting(nn.Module):
    """Its forward pass leaves things behind."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.fc = conv(3), nn.BatchNorm2d(4), nn.Linear(4, 2)
        self.register_buffer("calls", torch.zeros(()))
        self.scale = nn.Parameter(torch.ones(4))
        self.seen: Any = None

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.seen = x
        torch.rand(1)
        with torch.no_grad():
            self.scale.mul_(0.5)
        return self.fc(F.dropout(self.bn(self.conv(x)).mean((2, 3)), 0.5, self.training))  # type: ignore[no-any-return]


def test_the_network_is_left_as_it_was() -> None:
    network = nn.Sequential(Counting(), nn.ReLU()).train()
    network[0].bn.eval()
    before, state = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    flags = [module.training for module in network.modules()]
    attributes = [dict(vars(module)) for module in network.modules()]
    tensors = [*network.parameters(), *network.buffers()]
    channels = read(network)
    assert len(channels.producers) == 1
    assert_same(network.state_dict(), before)
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in network.modules()] == flags
    assert network[0].seen is None
    assert [list(vars(module)) for module in network.modules()] == [list(each) for each in attributes]
    assert all(one is other for one, other in zip([*network.parameters(), *network.buffers()], tensors, strict=True))
    assert not any(parameter.grad is not None for parameter in network.parameters())


def test_names_are_those_without_torch_compile() -> None:
    network = nn.Sequential(conv(3), nn.ReLU(), nn.Sequential(conv(4), nn.ReLU(), conv(4)), head())
    network[2] = torch.compile(network[2], backend="eager")
    channels, producers = named(network)
    assert list(producers) == ["2.0", "2.2"]
    assert producers["2.0"].end == "2.1"
    assert reads(channels, "2.2", "2.0")
    assert refused(producers) == {"2.2"}, "its outputs go where torch.fx cannot follow"
    assert set(channels.unseen) == {"0"}


def test_a_reader_of_another_width_is_no_reader() -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x, x], 1)

    channels, producers = named(nn.Sequential(conv(3), nn.ConstantPad3d((0, 0, 0, 0, 2, 2), 0), conv(8), head()))
    assert producers["0"].whole == "they enter 1"
    assert "2" not in channels.sites
    channels, producers = named(nn.Sequential(conv(3), Twice(), conv(8), head()))
    assert reads(channels, "2", "0", "0")
    assert not refused(producers) | whole(producers)
