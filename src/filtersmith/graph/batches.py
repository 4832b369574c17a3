"""Whose batch a tensor's first dimension is: known where each call on the way is.

A view that gathers all but the batch is a flattening only where it names that tensor's own batch; frames that were
folded into the batch would else be taken for features.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from filtersmith.graph.ops import OPERATIONS, Operation, of_module, operation, shape_of
from filtersmith.graph.trace import Part

_KEEPING = frozenset(
    {
        *(Operation.KEEPS_ZERO, Operation.MOVES_ZERO, Operation.PER_CHANNEL, Operation.BATCH_NORM),
        *(Operation.CONVOLUTION, Operation.LINEAR, Operation.FLAT, Operation.ONE_LESS),
    }
)


def batches(part: Part) -> dict[fx.Node, fx.Node]:
    """For each value the one whose batch it has, or whose number of examples it is.

    A value of which that is not known has its own.
    """
    found: dict[fx.Node, fx.Node] = {}
    for node in part.graph.nodes:
        found[node] = node
        if node.op == "placeholder" or not node.all_input_nodes:
            continue
        if (source := _source(part, node, found)) is not None:
            found[node] = source
    return found


def _source(part: Part, node: fx.Node, found: dict[fx.Node, fx.Node]) -> fx.Node | None:
    first: Any = node.args[0] if node.args else None
    if node.op == "call_module":
        return found[first] if isinstance(first, fx.Node) and _keeps(part.called(node)) else None
    if node.op not in ("call_function", "call_method"):
        return None
    if _is_shape(node) or _is_number(node):
        return found[node.all_input_nodes[0]]
    if node.target in _VIEWS and (shape := shape_of(node)):
        return found[shape[0]] if isinstance(shape[0], fx.Node) else None
    kind = OPERATIONS.get(node.target)
    if kind in (Operation.SUM, Operation.PRODUCT):
        tensors = {found[one] for one in node.all_input_nodes if one.op != "get_attr"}
        return tensors.pop() if len(tensors) == 1 else None
    if not isinstance(first, fx.Node):
        return None
    known = kind in _KEEPING or _behind_the_batch(node)
    return found[first] if known else None


_VIEWS = frozenset(("view", "reshape", torch.reshape))


def _keeps(module: nn.Module) -> bool:
    return isinstance(module, (_ConvNd, _BatchNorm, nn.Linear, nn.LayerNorm)) or of_module(module) in _KEEPING


def _is_shape(node: fx.Node) -> bool:
    whole = node.target == "size" and len(node.args) == 1 and not node.kwargs
    return whole or (node.target is getattr and node.args[1:] == ("shape",))


def _is_number(node: fx.Node) -> bool:
    """The number of examples: ``x.size(0)``, ``x.shape[0]``, ``len(x)``."""
    if node.target is len:
        return True
    if node.target == "size":
        return node.args[1:] == (0,) or dict(node.kwargs) == {"dim": 0}
    return node.target is operator.getitem and node.args[1:] == (0,) and _is_shape(node.all_input_nodes[0])


def _behind_the_batch(node: fx.Node) -> bool:
    """A flattening, a mean, a pick of positions that leaves dimension 0 alone; those of images stand for all."""
    kind = OPERATIONS.get(node.target)
    if not callable(kind):
        return False
    if node.target in _ENDS:
        first = node.args[1] if len(node.args) > 1 else node.kwargs.get("start_dim", 0)
        return isinstance(first, int) and first > 0
    return operation(node, None, 2) in _KEEPING


_ENDS = frozenset(("flatten", torch.flatten))
