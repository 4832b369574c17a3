"""The graph of a network's calls (torch.fx), with convolutions and normalisations as single nodes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.utils._pytree import tree_leaves

from filtersmith.common.snapshot import snapshot
from filtersmith.common.unnoticed import unnoticed
from filtersmith.graph.classes import EVERY_MODULES
from filtersmith.graph.reach import Reach, held_by
from filtersmith.graph.tracer import Tracer, uncompiled

KEPT = "kept for another call"
"""Of nodes whose value the network's code keeps (``meta``)."""


@dataclass(frozen=True)
class Part:
    """A part of a network that torch.fx could trace.

    Attributes:
        prefix: of the names of its modules in the network: ``""`` where the part is the whole network.
        module: the part.
        graph: its calls; the targets are names below the part.
        complete: whether it is the whole network.
        constants: tensors that the part's code makes while it is traced, by the name that the graph has for them.
    """

    prefix: str
    module: nn.Module
    graph: fx.Graph
    complete: bool
    constants: Mapping[str, Tensor]
    _called: dict[str, nn.Module] = field(default_factory=dict, init=False, repr=False, compare=False)

    def name(self, node: fx.Node) -> str:
        """The name in the network of the module that a node calls."""
        return f"{self.prefix}{node.target}"

    def called(self, node: fx.Node) -> nn.Module:
        """The module that a node calls."""
        target = str(node.target)
        if target not in self._called:
            self._called[target] = self.module.get_submodule(target)
        return self._called[target]


def trace(network: nn.Module, leaves: tuple[type[nn.Module], ...] = ()) -> fx.Graph | None:
    """The calls of a network in its present mode, called with its images alone; ``None`` where they cannot be told.

    Tracing runs the network's own code on stand-ins, which may leave them in its attributes: see `snapshot`.

    Args:
        network: the network.
        leaves: classes that are single calls, beside convolutions, batch norms, and all of torch's own.
    """
    return _trace(network, leaves, alone=True)


def _trace(network: nn.Module, leaves: tuple[type[nn.Module], ...], alone: bool) -> fx.Graph | None:
    """Likewise; where it isn't called ``alone``, the calls that it makes whatever else it is given."""
    devices = {tensor.device for tensor in (*network.parameters(), *network.buffers())}
    try:
        with unnoticed(devices), uncompiled(network):
            graph = Tracer(leaves, alone).trace(network)
            _mark_kept(network)
            optional = not alone and _has_optional(network)
            also = Tracer(leaves, alone, given=True).trace(network) if optional else graph
    except Exception:  # the network's own code fails in its own ways on stand-ins for tensors
        return None
    if any(given.graph is not one for one in (graph, also) for node in one.nodes for given in node.all_input_nodes):
        return None  # it has kept a value of another call, and reads it now
    return graph if also is graph or _alike(graph, also) else None


def _mark_kept(network: nn.Module) -> None:
    """Mark what the network's code has put into attributes of modules: another call may read it."""
    for module in network.modules():
        for value in tree_leaves({name: held for name, held in vars(module).items() if name not in EVERY_MODULES}):
            if issubclass(type(value), fx.Proxy):  # a stand-in says that it is a tensor
                value.node.meta[KEPT] = True


def _has_optional(network: nn.Module) -> bool:
    """Whether it may be called with or without something, which it can tell."""
    return any(parameter.default is None for parameter in inspect.signature(network.forward).parameters.values())


def _alike(one: fx.Graph, other: fx.Graph) -> bool:
    """Whether two graphs make the same calls."""
    return _calls(one) == _calls(other)


def _calls(graph: fx.Graph) -> list[tuple[Any, ...]]:
    nodes = [node for node in graph.nodes if node.op != "placeholder" or node.users]
    number = {node: place for place, node in enumerate(nodes)}
    return [
        (node.op, node.target, fx.node.map_arg((node.args, node.kwargs), lambda each: f"value {number[each]}"))
        for node in nodes
    ]


def parts(network: nn.Module, training: bool, leaves: tuple[type[nn.Module], ...] = ()) -> list[Part]:
    """The network's graph in one mode, or where it cannot be traced those of the largest parts that can.

    Parts are modules that code which cannot be traced surely calls as a whole. The network is left as it was.
    """
    restore = snapshot(network)
    try:
        network.train(training)
        graph = _trace(network, leaves, alone=True)
        if graph is not None:
            return [_part(network, "", graph)]
        return list(_parts_below(network, "", leaves, Reach(network)))
    finally:
        restore()


def _part(module: nn.Module, prefix: str, graph: fx.Graph) -> Part:
    names = {str(node.target) for node in graph.nodes if node.op == "get_attr"}
    constants = {name: getattr(module, name) for name in names if name.startswith("_tensor_constant")}
    return Part(prefix, module, graph, not prefix, constants)


def _parts_below(module: nn.Module, prefix: str, leaves: tuple[type[nn.Module], ...], reach: Reach) -> Iterator[Part]:
    """The parts inside a module that code which cannot be traced calls, or looks into; none of a torch.jit module."""
    if isinstance(module, torch.jit.ScriptModule):
        return
    for name, child in module.named_children():
        if isinstance(child, (_ConvNd, _BatchNorm, nn.Linear, *leaves)):
            continue  # called by code that cannot be traced
        how = reach.calls(module, name, child)
        graph = None if how is None else _trace(child, leaves, alone=how == "alone")
        if graph is not None:
            yield _part(child, f"{prefix}{name}.", graph)
        else:
            yield from _parts_below(child, f"{prefix}{name}.", leaves, reach)


def kept_elsewhere(network: nn.Module) -> set[int]:
    """The modules, by id, that some module keeps in a plain list, tuple or dictionary, or as a plain attribute.

    Code may call them from there, and what is put in their place among the network's children is not seen then.
    """
    return {held for module in network.modules() for held in held_by(module)}
