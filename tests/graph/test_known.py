"""Shapes that are known while a network is traced are those that its values have."""

from __future__ import annotations

import torch
from reference.calls import Calls
from torch import Tensor, fx, nn
from torch.nn import functional as F

from filtersmith.graph.known import Known, is_size, length, value
from filtersmith.graph.tracer import Tracer


def test_shapes_and_kinds_of_values() -> None:
    class Half(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)[:, ::2]

    def run(net: Calls, x: Tensor) -> Tensor:
        x = F.relu(net.bn(net.conv(x)))
        one, two = x.chunk(2, 1)
        x = torch.cat([x, one + two, x], 1) * x.shape[0]
        return net.fc(torch.flatten(net.cut(x), 1)) + x.numel() + len(x.shape)

    whole = Calls(run, conv=nn.Conv2d(3, 6, 1), bn=nn.BatchNorm2d(6), cut=Half(15, 4, 1), fc=nn.Linear(4, 2))
    graph = Tracer((), alone=True).trace(whole)
    known, seen = Known(whole, images=True), []

    class Watch(fx.Interpreter):
        def run_node(self, n: fx.Node) -> object:
            found = super().run_node(n)
            if n.op in ("call_module", "call_function", "call_method"):
                shape, is_one = known.shape(n), isinstance(found, Tensor)
                assert is_one or not known.is_tensor(n), n
                assert shape.dims in (None, is_one and found.ndim), n
                assert shape.channels in (None, is_one and found.ndim > 1 and found.shape[1]), n
                assert not is_size(n, known) or type(found) is int, n
                assert length(n, known) in (None, len(found) if isinstance(found, (tuple, list)) else None), n
                assert value(n, known) is None or n.target is getattr, n
                seen.append(shape.channels)
            return found

    Watch(fx.GraphModule(whole, graph)).run(torch.randn(2, 3, 2, 1))
    assert {6, 3, 15} <= set(seen)
