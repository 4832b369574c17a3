"""Whether each channel surely has one position behind a call."""

from __future__ import annotations

import pytest
from torch import fx, nn
from torch.nn import functional as F

from filtersmith.graph.pooled import pooled

CALLS = {
    "adaptive": (lambda x: F.adaptive_avg_pool2d(x, 1), (True, True)),
    "adaptive, one by two": (lambda x: F.adaptive_max_pool2d(x, (1, 2)), (False, False)),
    "mean of all": (lambda x: x.mean((2, 3), keepdim=True), (True, True)),
    "mean of one": (lambda x: x.mean(-1), (False, True)),
    "activation": (F.relu, (False, True)),
    "dropout": (lambda x: F.dropout(x, 0.5), (False, True)),
    "padding": (lambda x: F.pad(x, (1, 1)), (False, False)),
}
"""With the answers where there were many positions, and where there was one."""


@pytest.mark.parametrize("name", CALLS)
def test_functions(name: str) -> None:
    function, answers = CALLS[name]
    (node,) = (node for node in fx.symbolic_trace(function).graph.nodes if node.op.startswith("call"))
    assert tuple(pooled(node, None, 2, before) for before in (False, True)) == answers


MODULES = {
    nn.AdaptiveAvgPool2d(1): (True, True),
    nn.AdaptiveMaxPool2d((1, 1)): (True, True),
    nn.AdaptiveAvgPool2d(2): (False, False),
    nn.Dropout(): (False, True),
    nn.BatchNorm2d(4): (False, True),
    nn.GELU(): (False, True),
    nn.Upsample(scale_factor=2): (False, False),
}


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module))
def test_modules(module: nn.Module) -> None:
    (node,) = (node for node in fx.symbolic_trace(nn.Sequential(module)).graph.nodes if node.op == "call_module")
    assert tuple(pooled(node, module, 2, before) for before in (False, True)) == MODULES[module]
