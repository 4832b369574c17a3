"""The table of operations: it is right about zeros, and a new operation is one line of it."""

from __future__ import annotations

import operator
from typing import Any

import pytest
import torch
from reference.channel_graphs import full, reads, stays, then_read
from torch import Tensor, fx, nn
from torch.nn import functional as F

from filtersmith.graph.channels import channel_graph
from filtersmith.graph.ops import (
    ACTIVATIONS,
    ELEMENTWISE,
    KEEPS_ZERO,
    MOVES_ZERO,
    OPERATIONS,
    Operation,
    in_place,
    is_activation,
    of_module,
    operation,
    original_class,
)

ARGUMENTS: dict[Any, tuple[Any, ...]] = {nn.Threshold: (1.0, 2.0)}


def gone(x: Tensor) -> Tensor:
    """Of which nothing can be known."""
    raise RuntimeError("it is called on no noise")


fx.wrap("gone")


class Leaf(nn.ReLU):
    """A class of its own, of which nothing is known."""


def test_a_new_operation_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    network = then_read(lambda s, y: gone(y))
    before = channel_graph(network)
    assert before.reasons["first"] == "they enter gone, which may make anything of them"
    assert before.consumers["first"] == []
    monkeypatch.setitem(OPERATIONS, gone, KEEPS_ZERO)
    after = channel_graph(network)
    assert not stays(after) | full(after).keys()
    assert reads(after, "last", "first")
    # In front of a sum, it matters what becomes of zeros.
    network = then_read(lambda s, y: gone(y) + s.other(y), other=nn.Conv2d(4, 4, 1))
    assert "first" not in stays(channel_graph(network))
    monkeypatch.setitem(OPERATIONS, gone, MOVES_ZERO)
    assert "first" in stays(channel_graph(network))


def test_a_new_kind_of_module_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Leaf()
    assert of_module(own) is None
    monkeypatch.setitem(OPERATIONS, Leaf, KEEPS_ZERO)
    assert of_module(own) is KEEPS_ZERO
    monkeypatch.setitem(OPERATIONS, Leaf, lambda module: MOVES_ZERO if module.inplace else None)
    assert [of_module(Leaf(inplace)) for inplace in (True, False)] == [MOVES_ZERO, None]


@pytest.mark.parametrize(
    "kind", [k for k in ACTIVATIONS if isinstance(k, type) and k is not nn.PReLU], ids=lambda kind: kind.__name__
)
def test_activations_do_to_zeros_what_the_table_says(kind: type[nn.Module]) -> None:
    module = kind(*ARGUMENTS.get(kind, ())).eval()
    image = torch.randn(2, 4, 3, 3)
    image[:, 1] = 0
    output = module(image)
    assert of_module(module) is (KEEPS_ZERO if not output[:, 1].any() else MOVES_ZERO)
    image[:, 2:] = torch.randn(2, 2, 3, 3)
    assert torch.equal(module(image)[:, :2], output[:, :2]), "each channel by itself"


FUNCTIONS = [
    *(key for key in ACTIVATIONS if not isinstance(key, (type, str))),
    *(torch.neg, torch.abs, torch.exp, torch.clone),
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_functions_do_to_zeros_what_the_table_says(function: Any) -> None:
    output = function(torch.zeros(1, 2, 3, 3))
    assert OPERATIONS[function] is (KEEPS_ZERO if not output.any() else MOVES_ZERO)


@pytest.mark.parametrize(
    ("module", "known"),
    [
        (nn.PReLU(), KEEPS_ZERO),
        (nn.PReLU(4), Operation.PER_CHANNEL),
        (nn.Hardtanh(-1, 1), KEEPS_ZERO),
        (nn.Hardtanh(1, 2), MOVES_ZERO),
        (nn.ReLU6(), KEEPS_ZERO),
        (nn.Flatten(), Operation.FLAT),
        (nn.Flatten(2), None),
        (nn.ZeroPad2d(1), KEEPS_ZERO),
        (nn.ConstantPad2d(1, 0.5), MOVES_ZERO),
        (nn.ReflectionPad1d(1), KEEPS_ZERO),
        (nn.MaxPool2d(2), KEEPS_ZERO),
        (nn.MaxPool2d(2, return_indices=True), None),
        (nn.InstanceNorm2d(4), Operation.PER_CHANNEL),
        (nn.SyncBatchNorm(4), Operation.BATCH_NORM),
        (nn.ConvTranspose2d(1, 1, 1), Operation.CONVOLUTION),
        (nn.modules.linear.NonDynamicallyQuantizableLinear(2, 2), Operation.LINEAR),
        (nn.Softmax(1), None),
        (nn.LayerNorm(4), None),
        (Leaf(), None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else str(value),
)
def test_modules(module: nn.Module, known: Operation | None) -> None:
    assert of_module(module) is known


def called(function: Any, *arguments: Any, **options: Any) -> fx.Node:
    """The call of a function or method on a tensor."""
    graph = fx.Graph()
    x = graph.placeholder("x")
    if isinstance(function, str):
        return graph.call_method(function, (x, *arguments), options)
    return graph.call_function(function, (x, *arguments), options)


def described(value: Any) -> str | None:
    return (
        f"{getattr(value.target, '__name__', value.target)}{value.args[1:]}" if isinstance(value, fx.Node) else None
    )


@pytest.mark.parametrize(
    ("node", "spatial", "known"),
    [
        (called(torch.flatten, 1), 2, Operation.FLAT),
        (called("flatten", start_dim=2), 2, None),
        (called("view", -1, 512), 2, Operation.VIEW),
        (called("view", (4, -1)), 2, Operation.VIEW),
        (called("view", 2, -1, 3, 3), 2, None),
        (called("mean", (2, 3)), 2, Operation.FLAT),
        (called("mean", (2, 3), keepdim=True), 2, KEEPS_ZERO),
        (called("mean", -1), 2, Operation.ONE_LESS),
        (called("mean", 1), 2, None),
        (called("mean", -2), 1, None),
        (called(F.pad, (1, 1, 1, 1)), 2, KEEPS_ZERO),
        (called(F.pad, (1, 1), value=1.0), 2, MOVES_ZERO),
        (called(F.pad, (0, 0, 0, 0, 1, 1)), 2, None),
        (called(F.max_pool2d, 2), 2, KEEPS_ZERO),
        (called(F.max_pool2d, 2), 1, None),
        (called("size", 0), 2, Operation.SIZE),
        (called("size", 1), 2, Operation.WIDTH),
        (called("size", -3), 2, Operation.WIDTH),
        (called(getattr, "device"), 2, Operation.SIZE),
        (called(operator.getitem, (slice(None), slice(None), slice(0, 2))), 2, KEEPS_ZERO),
        (called(operator.getitem, (slice(Operation.PART), slice(0, 2))), 2, None),
        (called(operator.truediv, 2.0), 2, Operation.DIVISION),
        (called(torch.softmax, 1), 2, None),
    ],
    ids=lambda value: (
        f"{getattr(value.target, '__name__', value.target)}{value.args[1:]}" if isinstance(value, fx.Node) else None
    ),
)
def test_calls(node: fx.Node, spatial: int, known: Operation | None) -> None:
    assert operation(node, None, spatial) is known


def test_torchvisions_stochastic_depth_without_importing_it() -> None:
    ops = pytest.importorskip("torchvision.ops")
    assert operation(called(ops.stochastic_depth, 0.5, "row"), None, 2) in ELEMENTWISE


def test_in_place_and_activations() -> None:
    assert in_place(called("relu_"), None)
    assert in_place(called(F.relu, inplace=True), None)
    assert not in_place(called("__add__", 1), None)
    assert in_place(called("relu"), nn.ReLU(inplace=True))
    assert is_activation(called(F.gelu))
    assert is_activation(called("x"), nn.PReLU(4))
    assert not is_activation(called(F.dropout))
    assert not is_activation(called("x"), nn.BatchNorm2d(4))
    assert original_class(Leaf()) is Leaf
