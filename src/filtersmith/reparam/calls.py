"""What the code of a network does with its convolutions and batch norms, read off its graph (torch.fx)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from filtersmith.common.snapshot import snapshot
from filtersmith.graph.trace import trace
from filtersmith.reparam.branches import Absorbed, Branches

UNTRACED = "it is called by code that torch.fx cannot trace"
READ = "its weight is read by the network's own code, which would not see the branches"
UNCALLED = "nothing that torch.fx can trace calls it"

LEAVES = (Branches, Absorbed)

Row = tuple[str, Any, str, str]
"""A node of a graph: all that must stay the same where a block takes a convolution's place."""


@dataclass
class Calls:
    """Who calls what, in training and in evaluation.

    Attributes:
        behind: convolution -> the module that alone reads its output; ``None``: something else, or several.
        before: batch norm -> the convolution that it alone reads, likewise.
        reasons: module -> why nothing can take its place.
        rows: the graph of each of the largest parts that can be traced, by its mode.
    """

    behind: dict[nn.Module, nn.Module | None] = field(default_factory=dict)
    before: dict[nn.Module, nn.Module | None] = field(default_factory=dict)
    reasons: dict[nn.Module, str] = field(default_factory=dict)
    rows: dict[tuple[bool, nn.Module], list[Row]] = field(default_factory=dict)


def calls_of(network: nn.Module) -> Calls:
    """Those of a network, which stays as it is.

    A network that torch.fx cannot trace is looked at in parts, as if these were only called as a whole. A container
    (``nn.Sequential``) is no such part: code that cannot be traced may as well call what is inside.
    """
    calls = Calls()
    # Tracing runs the network's own code on stand-ins, which may leave them in its attributes.
    restore = snapshot(network)
    try:
        for mode in (network.training, not network.training):
            network.train(mode)
            for part, graph in _parts(network, calls):
                calls.rows[mode, part] = _rows(graph)
                _note(part, graph, calls)
    finally:
        restore()
    for module in network.modules():
        if isinstance(module, (_ConvNd, _BatchNorm)) and module not in calls.behind and module not in calls.before:
            calls.reasons.setdefault(module, UNCALLED)
    return calls


def same_calls(network: nn.Module, calls: Calls) -> bool:
    """Whether the network's code still does what it did, now that others stand where some of its modules were.

    It may ask what a module is: by its class, by an attribute.
    """
    restore = snapshot(network)
    try:
        for mode in (network.training, not network.training):
            network.train(mode)
            for (traced_in, part), before in calls.rows.items():
                if traced_in == mode:
                    graph = trace(part, LEAVES)
                    if graph is None or _rows(graph) != before:
                        return False
    finally:
        restore()
    return True


def _rows(graph: fx.Graph) -> list[Row]:
    """What a graph does, without the objects that it does it with."""
    return [(node.op, node.target, str(node.args), str(node.kwargs)) for node in graph.nodes]


def _parts(module: nn.Module, calls: Calls, inside: bool = False) -> Iterator[tuple[nn.Module, fx.Graph]]:
    """The largest parts that can be traced; what is inside of none of them is noted."""
    if isinstance(module, LEAVES):
        return
    if isinstance(module, (_ConvNd, _BatchNorm)):
        calls.behind[module] = calls.before[module] = None
        calls.reasons[module] = UNTRACED
        return
    graph = None if inside and _is_container(module) else trace(module, LEAVES)
    if graph is not None:
        yield module, graph
        return
    for child in module.children():
        yield from _parts(child, calls, inside=True)


def _is_container(module: nn.Module) -> bool:
    own = type(module).forward
    return own is nn.Sequential.forward or own is nn.Module.forward


def _note(part: nn.Module, graph: fx.Graph, calls: Calls) -> None:
    behind, before = calls.behind, calls.before
    for node in graph.nodes:
        if node.op == "get_attr":
            owner = part.get_submodule(str(node.target).rpartition(".")[0])
            behind[owner] = before[owner] = None
            calls.reasons.setdefault(owner, READ)
        if node.op != "call_module":
            continue
        module = part.get_submodule(str(node.target))
        if isinstance(module, _ConvNd):
            readers = [part.get_submodule(str(user.target)) for user in node.users if user.op == "call_module"]
            bn = readers[0] if len(readers) == len(node.users) == 1 else None
            behind[module] = bn if behind.setdefault(module, bn) is bn else None
        elif isinstance(module, _BatchNorm):
            source: Any = node.args[0] if node.args else node.kwargs.get("input")
            called = isinstance(source, fx.Node) and source.op == "call_module"
            conv = part.get_submodule(str(source.target)) if called else None
            before[module] = conv if before.setdefault(module, conv) is conv else None
