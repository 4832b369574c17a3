"""What the code of a network does with its convolutions and batch norms, read off its graph (torch.fx)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from filtersmith.common.snapshot import snapshot
from filtersmith.graph.trace import Part, parts, trace
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
        rows: the graphs of the parts that can be traced, for each mode.
    """

    behind: dict[nn.Module, nn.Module | None] = field(default_factory=dict)
    before: dict[nn.Module, nn.Module | None] = field(default_factory=dict)
    reasons: dict[nn.Module, str] = field(default_factory=dict)
    rows: dict[bool, dict[nn.Module, list[Row] | None]] = field(default_factory=dict)


def calls_of(network: nn.Module) -> Calls:
    """Those of a network, which stays as it is.

    A network that torch.fx cannot trace is looked at in the parts that the rest of its code surely calls as a whole.
    """
    calls = Calls()
    convolutions = [module for module in network.modules() if isinstance(module, (_ConvNd, _BatchNorm))]
    for mode in (network.training, not network.training):
        found = parts(network, mode, LEAVES)
        if all(part.complete for part in found):
            calls.rows[mode] = {part.module: _rows(part.graph) for part in found}
        else:  # known to be called as a whole, whatever else they are given
            calls.rows[mode] = _rows_in(network, mode, [part.module for part in found])
        for part in found:
            _note(part, calls)
        inside = {id(module) for part in found for module in part.module.modules()}
        for module in convolutions:
            if id(module) not in inside:
                calls.behind[module] = calls.before[module] = None
                calls.reasons[module] = UNTRACED
    for module in convolutions:
        if module not in calls.behind and module not in calls.before:
            calls.reasons.setdefault(module, UNCALLED)
    return calls


def same_calls(network: nn.Module, calls: Calls) -> bool:
    """Whether the network's code still does what it did, now that others stand where some of its modules were.

    It may ask what a module is: by its class, by an attribute.
    """
    return all(_rows_in(network, mode, list(before)) == before for mode, before in calls.rows.items())


def _rows_in(network: nn.Module, mode: bool, traced: list[nn.Module]) -> dict[nn.Module, list[Row] | None]:
    """What some parts of a network do in one mode, without the objects that they do it with."""
    found: dict[nn.Module, list[Row] | None] = {}
    restore = snapshot(network)
    try:
        network.train(mode)
        for part in traced:
            graph = trace(part, LEAVES)
            found[part] = None if graph is None else _rows(graph)
    finally:
        restore()
    return found


def _rows(graph: fx.Graph) -> list[Row]:
    return [(node.op, node.target, str(node.args), str(node.kwargs)) for node in graph.nodes]


def _note(part: Part, calls: Calls) -> None:
    behind, before = calls.behind, calls.before
    for node in part.graph.nodes:
        if node.op == "get_attr":
            owner = part.module.get_submodule(str(node.target).rpartition(".")[0])
            behind[owner] = before[owner] = None
            calls.reasons.setdefault(owner, READ)
        if node.op != "call_module":
            continue
        module = part.called(node)
        if isinstance(module, _ConvNd):
            readers = [part.called(user) for user in node.users if user.op == "call_module"]
            bn = readers[0] if len(readers) == len(node.users) == 1 else None
            behind[module] = bn if behind.setdefault(module, bn) is bn else None
        elif isinstance(module, _BatchNorm):
            source: Any = node.args[0] if node.args else node.kwargs.get("input")
            called = isinstance(source, fx.Node) and source.op == "call_module"
            conv = part.called(source) if called else None
            before[module] = conv if before.setdefault(module, conv) is conv else None
