"""The graph of a network's calls (torch.fx), with convolutions and normalisations as single nodes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from filtersmith.common.snapshot import snapshot


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

    def name(self, node: fx.Node) -> str:
        """The name in the network of the module that a node calls."""
        return f"{self.prefix}{node.target}"

    def called(self, node: fx.Node) -> nn.Module:
        """The module that a node calls."""
        return self.module.get_submodule(str(node.target))


class _Tracer(fx.Tracer):
    """Looks into every module but torch's own, convolutions and batch norms (their subclasses, too), and leaves."""

    def __init__(self, leaves: tuple[type[nn.Module], ...]) -> None:
        super().__init__()
        self._leaves = (_ConvNd, _BatchNorm, *leaves)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, self._leaves) or super().is_leaf_module(m, module_qualified_name)


def trace(network: nn.Module, leaves: tuple[type[nn.Module], ...] = ()) -> fx.Graph | None:
    """The calls of a network in its present mode; ``None`` where torch.fx cannot tell them.

    Tracing runs the network's own code on stand-ins, which may leave them in its attributes: see `snapshot`.
    """
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            return _Tracer(leaves).trace(network)
    except Exception:  # the network's own code fails in its own ways on stand-ins for tensors
        return None


def parts(network: nn.Module, training: bool) -> list[Part]:
    """The network's graph in one mode, or where it cannot be traced those of the largest parts that can.

    The network is left as it was.
    """
    restore = snapshot(network)
    try:
        network.train(training)
        return list(_parts(network, ""))
    finally:
        restore()


def _parts(module: nn.Module, prefix: str) -> Iterator[Part]:
    if isinstance(module, (_ConvNd, _BatchNorm, nn.Linear)):
        return  # called by code that cannot be traced
    graph = trace(module)
    if graph is not None:
        names = {str(node.target) for node in graph.nodes if node.op == "get_attr"}
        constants = {name: getattr(module, name) for name in names if name.startswith("_tensor_constant")}
        yield Part(prefix, module, graph, not prefix, constants)
        return
    for name, child in module.named_children():
        yield from _parts(child, f"{prefix}{name}.")


def kept_elsewhere(network: nn.Module) -> set[int]:
    """The modules, by id, that some module keeps in a plain list, tuple or dictionary, or as a plain attribute.

    Code may call them from there, and what is put in their place among the network's children is not seen then.
    """
    found: set[int] = set()

    def look(value: Any, depth: int) -> None:
        if isinstance(value, nn.Module):
            found.add(id(value))
        elif isinstance(value, (list, tuple, set)) and depth:
            for item in value:
                look(item, depth - 1)
        elif isinstance(value, dict) and depth:
            look(list(value.values()), depth)

    for module in network.modules():
        for name, value in vars(module).items():
            if name != "_modules":
                look(value, 3)
    return found
