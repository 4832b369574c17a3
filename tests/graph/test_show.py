"""What a newcomer sees of a channel graph."""

from __future__ import annotations

import pytest
import torch
from reference.channel_graphs import conv, head
from torch import nn

import filtersmith as fs
from filtersmith import zoo

SMALL = """\
Sequential: 4 convolutions, 2 of them may lose filters

convolution  filters  may go  per-channel > consumers
0                  4  yes     1, 3 > 5
3                  4  no [1]  on the way of 0
5                  6  yes     > 6
6                  2  no [2]

[1]   it is depthwise: its filters go with the channels that they read
[2]   its outputs are the network's

yes   filters may go, and with them their channels, up to all that reads them
no    the filters stay, because of [n]
a > b the channels pass a (norms, depthwise convolutions, ...); b reads them"""


def test_a_small_network_word_for_word() -> None:
    network = nn.Sequential(
        conv(3), nn.BatchNorm2d(4), nn.ReLU(), conv(4, groups=4), nn.ReLU(), conv(4, 6), conv(6, 2)
    )
    assert str(fs.channel_graph(network)) == SMALL


def row(shown: str, name: str) -> str:
    (found,) = [line for line in shown.splitlines() if line.split()[:1] == [name]]
    return found


@pytest.mark.parametrize("of", ["torchvision", "zoo"])
def test_resnet18(of: str) -> None:
    build = pytest.importorskip("torchvision.models").resnet18
    network = build() if of == "torchvision" else zoo.build("resnet18-cifar")
    shown = str(fs.channel_graph(network))
    assert max(map(len, shown.splitlines())) <= 80
    assert "20 convolutions, 17 of them may lose filters" in shown
    shortcut = "layer2.0.projection.0" if of == "zoo" else "layer2.0.downsample.0"
    assert row(shown, "layer1.0.conv1").split() == ["layer1.0.conv1", "64", "yes", ".bn1", ">", ".conv2"]
    assert row(shown, "conv1").split() == ["conv1", "64", "zeros", "bn1", ">", "layer1.0.conv1,", "[1]"]
    assert row(shown, shortcut).split() == [shortcut, "128", "no", "[2]", ".1", ">", "[1]"]
    assert row(shown, "[1]").endswith("they are added to others")
    assert row(shown, "[2]").endswith("it is the 1x1 projection of a shortcut")
    for word in ("yes", "zeros", "no", "a", ".name"):
        assert row(shown, word), "the legend"


def test_a_name_that_is_cut_is_explained() -> None:
    class Long(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a_block_with_a_name_of_many_letters = nn.Sequential(conv(3), conv(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.a_block_with_a_name_of_many_letters(x)  # type: ignore[no-any-return]

    shown = str(fs.channel_graph(Long())).splitlines()
    assert [line for line in shown if line.startswith("..0 ")], "the row"
    assert shown[-1] == "..name is cut at its beginning"


@pytest.mark.parametrize("name", ["densenet121", "mobilenet_v2", "efficientnet_b0", "googlenet"])
def test_long_names_and_many_consumers_fit(name: str) -> None:
    models = pytest.importorskip("torchvision.models")
    options = {"init_weights": False} if name == "googlenet" else {}
    with torch.device("meta"):
        graph = fs.channel_graph(getattr(models, name)(**options))
    lines = str(graph).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines.index("", 2) - 3 == len(graph.convolutions), "a row for each"


def test_many_consumers_are_counted() -> None:
    class Many(nn.Module):
        def __init__(self, block: str) -> None:
            super().__init__()
            self.stem = conv(3)
            self.add_module(block, nn.ModuleList(conv(4, 2) for _ in range(9)))
            self.readers, self.head = getattr(self, block), head(18)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.stem(x)
            return self.head(torch.cat([reader(x) for reader in self.readers], 1))  # type: ignore[no-any-return]

    assert row(str(fs.channel_graph(Many("few_letters"))), "stem").endswith("> few_letters.0, +8 more")
    assert row(str(fs.channel_graph(Many("a_very_long_name_" * 4))), "stem").endswith("> 9 layers")


def test_a_network_without_convolutions() -> None:
    assert str(fs.channel_graph(nn.Linear(2, 2))) == "Linear: 0 convolutions, 0 of them may lose filters"
