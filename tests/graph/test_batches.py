"""Whose batch a value has: known on the way through known calls, and else nobody's but its own."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from filtersmith.graph.batches import batches
from filtersmith.graph.trace import Part


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.scale = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Parameter(torch.ones(4, 1, 1))

    def forward(self, x: Tensor) -> dict[str, Tensor | int]:
        y = F.max_pool2d(self.bn(self.conv(x)) * self.scale + 1, 2)
        frames = self.conv(x.flatten(0, 1))
        n = y.shape[0]
        return {
            "known": y.mean((2, 3)),
            "cropped": y[:, :, 1:],
            "viewed": y.sort(0)[0].view(n, 4, -1),
            "summed": y + self.conv(x),
            "number": x.size(0),
            "folded": frames,
            "number of frames": frames.size(0),
            "some": y[1:],
            "sorted": y.sort(0)[0],
            "literal": y.view(2, -1),
            "whatever": y.view(-1, 4),
            "both": y + frames,
            "width": y.size(1),
        }


def test_batches() -> None:
    network = Network()
    graph = fx.Tracer().trace(network)
    (output,) = (node for node in graph.nodes if node.op == "output")
    image = next(iter(graph.nodes))
    named = output.args[0]
    found = batches(Part("", network, graph, True, {}))
    assert isinstance(named, dict)
    mine = {name for name, node in named.items() if found[node] is image}
    assert mine == {"known", "cropped", "viewed", "summed", "number"}
    assert found[named["number of frames"]] is found[named["folded"]]
