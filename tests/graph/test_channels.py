"""The channel graph of networks of every kind. What is expected is written by hand."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from reference.calls import Calls
from reference.channel_graphs import activations, conv, ends, full, head, reads, reads_mixed, stays
from reference.nets import assert_same
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DataParallel

import filtersmith as fs
from filtersmith import zoo
from filtersmith.graph.channels import channel_graph
from filtersmith.graph.flow import Run


def test_plain_network() -> None:
    graph = channel_graph(zoo.build("vanilla-2-4", image_size=4))
    assert list(graph.producers) == ["features.0", "features.3"]
    assert not stays(graph) | full(graph).keys()
    assert graph.reasons == {}
    assert [producer.filters for producer in graph.producers.values()] == [4, 4]
    assert ends(graph) == activations(graph) == {"features.0": "features.2", "features.3": "features.5"}
    found = {site.name: (site.role, site.within, str(*site.inputs)) for site in graph.sites.values()}
    assert found == {
        "features.1": ("per-channel", "features.0", "features.0[4]"),
        "features.2": ("elementwise", "features.0", "features.0[4]"),
        "features.3": ("consumer", None, "features.0[4]"),
        "features.4": ("per-channel", "features.3", "features.3[4]"),
        "features.5": ("elementwise", "features.3", "features.3[4]"),
        "fc": ("consumer", None, "features.3[4]"),
    }
    assert graph.consumers == {"features.0": ["features.3"], "features.3": ["fc"]}
    assert graph.per_channel == {"features.0": ["features.1"], "features.3": ["features.4"]}


def test_residual_network() -> None:
    graph = channel_graph(zoo.build("resnet20"))
    blocks = [f"layer{stage}.{block}" for stage in (1, 2, 3) for block in (0, 1, 2)]
    assert list(graph.producers) == ["conv1", *(f"{block}.conv{n}" for block in blocks for n in (1, 2))]
    assert not stays(graph)
    # What enters a sum keeps its width, also under shortcuts that take pixels out and pad channels.
    assert set(full(graph)) == {"conv1", *(f"{block}.conv2" for block in blocks)}
    assert ends(graph) == {name: name.replace("conv", "bn") for name in graph.producers}
    behind = {name: ends(graph)[name] if name.endswith(".conv2") else "relu" for name in graph.producers}
    assert activations(graph) == behind
    assert reads(graph, "layer1.0.conv1", "conv1")
    assert reads(graph, "layer3.2.conv2", "layer3.2.conv1")
    for mixed in (*(f"{block}.conv1" for block in blocks[1:]), "fc"):
        assert reads_mixed(graph, mixed)


def test_pre_activated_network() -> None:
    graph = channel_graph(zoo.build("wrn-10-1"))
    assert list(graph.producers) == [
        "conv1",
        *("layer1.0.conv1", "layer1.0.conv2"),
        *("layer2.0.projection", "layer2.0.conv1", "layer2.0.conv2"),
        *("layer3.0.projection", "layer3.0.conv1", "layer3.0.conv2"),
    ]
    assert stays(graph) == {"layer2.0.projection", "layer3.0.projection"}
    assert "1x1 projection of a shortcut" in graph.reasons["layer2.0.projection"]
    assert set(full(graph)) >= {"conv1", "layer1.0.conv2", "layer2.0.conv2", "layer3.0.conv2"}
    for name in ("layer1.0", "layer2.0", "layer3.0"):
        first, second = f"{name}.conv1", f"{name}.conv2"
        assert first not in full(graph)
        assert (ends(graph)[first], activations(graph)[first]) == (f"{name}.bn2", "relu")
        assert (ends(graph)[second], activations(graph)[second]) == (second, second)
        assert reads(graph, second, first)
    assert ends(graph)["conv1"] == "conv1"
    assert reads(graph, "layer1.0.bn1", "conv1")
    assert graph.sites["layer1.0.bn1"].within is None
    assert reads(graph, "layer1.0.conv1", "conv1")


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
    graph = channel_graph(network)
    assert list(graph.producers) == ["stem", "one.conv1", "one.conv2", "two.conv1", "two.conv2", "transition"]
    assert not stays(graph) | full(graph).keys()
    assert reads(graph, "one.bn1", "stem")
    for reader in ("two.bn1", "two.conv1"):
        assert reads(graph, reader, "stem", "one.conv2")
    assert reads(graph, "transition", "stem", "one.conv2", "two.conv2")
    assert reads(graph, "fc", "transition")
    assert graph.sites["two.bn1"].within is None
    assert graph.sites["two.bn2"].within == "two.conv1"
    assert ends(graph) == {name: name for name in graph.producers} | {"one.conv1": "one.bn2", "two.conv1": "two.bn2"}


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
    graph = channel_graph(network)
    assert (len(graph.producers), len(graph.convolutions) - len(graph.producers)) == (producers_, depthwise)
    assert stays(graph) == refusals
    assert all("depthwise" in graph.reasons[name] for name in graph.convolutions if name not in graph.producers)
    if name == "mobilenet_v2":
        # Expansion, depthwise and their batch norms are one row of channels, up to the projection.
        assert ends(graph)["features.2.conv.0.0"] == "features.2.conv.1.2"
        assert set(full(graph)) == {f"features.{n}.conv.2" for n in (3, 5, 6, 8, 9, 10, 12, 13, 15, 16)} | {
            f"features.{n}.conv.{1 if n == 1 else 2}" for n in (2, 4, 7, 11, 14)
        }
    if name == "googlenet":
        auxiliary = [name for name, behind in activations(graph).items() if behind is None]
        assert auxiliary == ["aux1.conv.conv", "aux2.conv.conv"], "heads that only training has"
        branches = [f"inception3a.branch{n}.conv" for n in ("1", "2.1", "3.1", "4.1")]
        assert reads(graph, "inception3b.branch1.conv", *branches)


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
    graph = channel_graph(network)
    assert list(graph.producers) == ["0", "6", "7", "8"]
    assert graph.reasons == {"3": "it is depthwise: its filters go with the channels that they read"}
    assert not full(graph)
    assert ends(graph) == {"0": "5", "6": "6", "7": "7", "8": "9.0"}
    assert activations(graph)["0"] == "2"
    assert [producer.filters for producer in graph.producers.values()] == [4, 6, 4, 3]
    doubled = (Run("0", 4, repeats=2),)
    assert graph.sites["3"].inputs == (Run("0", 4),)
    assert graph.sites["3"].outputs == graph.sites["4"].inputs == graph.sites["6"].inputs == doubled
    roles = {name: (site.role, site.within) for name, site in graph.sites.items()}
    per_channel = {name: ("per-channel", "0") for name in "134"}
    elementwise = {"2": ("elementwise", "0"), "5": ("elementwise", "0"), "9.0": ("elementwise", "8")}
    assert roles == per_channel | elementwise | {name: ("consumer", None) for name in ("6", "7", "8", "9.2")}


@pytest.mark.parametrize("dims", [1, 3])
def test_other_dimensions(dims: int) -> None:
    of: dict[str, Any] = {name: getattr(nn, f"{name}{dims}d") for name in ("Conv", "BatchNorm", "MaxPool")}
    network = nn.Sequential(
        of["Conv"](1, 4, 3), of["BatchNorm"](4), nn.ReLU(), of["MaxPool"](2), of["Conv"](4, 2, 1), nn.Flatten(),
        nn.Linear(2 * 2**dims, 3),
    )  # fmt: skip
    graph = channel_graph(network)
    assert not stays(graph) | full(graph).keys()
    assert (ends(graph)["0"], activations(graph)["0"]) == ("3", "2")
    assert reads(graph, "6", "4")


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
    assert len(channel_graph(network).producers) == 1
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
    graph = channel_graph(network)
    assert list(graph.producers) == ["0", "2.0", "2.2"]
    assert ends(graph)["2.0"] == "2.1"
    assert reads(graph, "2.2", "2.0")
    assert reads(graph, "2.0", "0")
    assert not graph.reasons


def test_wrapped_networks_and_what_is_none() -> None:
    network = nn.Sequential(conv(3), nn.ReLU(), conv(4), head())
    described = str(fs.channel_graph(network))
    assert described.startswith("Sequential: 2 convolutions, 2 of them may lose filters")
    assert str(fs.channel_graph(DataParallel(network))) == described
    assert str(fs.channel_graph(torch.compile(network, backend="eager"))) == described
    for nothing in ("resnet18", None, nn.Sequential):
        with pytest.raises(ValueError, match=r"^model must be a torch\.nn\.Module, got '\w+'$"):
            fs.channel_graph(nothing)  # type: ignore[arg-type]


def test_it_cannot_be_changed() -> None:
    graph = channel_graph(nn.Sequential(conv(3), nn.ReLU(), conv(4), head()))
    for record in (graph, graph.producers["0"], graph.sites["2"]):
        with pytest.raises(AttributeError):
            record.name = "other"  # type: ignore[misc, union-attr]
    assert repr(graph) == "ChannelGraph(Sequential, 2 convolutions, 2 may lose filters)"
