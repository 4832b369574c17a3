"""What is asked of a network as a whole before kernels are shared in it or regulators put in."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin

from filtersmith.common.modules import bare, plain_name
from filtersmith.filters import LAZY, Need, Surroundings, reason_against

DEPLOYED = Need(rows=False, deployed=True, linear="always")


def plain(model: nn.Module, doing: str) -> nn.Module:
    """The network itself; ``ValueError`` if it is wrapped, sharded, expanded, or has lazy layers."""
    network = bare(model, doing)
    for name, reason in unready(network).items():
        raise ValueError(f"cannot {doing}: layer {name!r}: {reason}")
    return network


def unready(network: nn.Module) -> dict[str, str]:
    """Layer -> why neither it nor another layer of its network can change: it is expanded, or still lazy."""
    found = {}
    around = Surroundings.of(network)
    for name, module in network.named_modules():
        layer = around.layers.get(plain_name(name))
        reason = None if layer is None else reason_against(name, layer, DEPLOYED, around)
        if reason is None and isinstance(module, LazyModuleMixin) and _has_no_shape(module):
            reason = LAZY
        if reason is not None:
            found[plain_name(name)] = reason
    return found


def _has_no_shape(module: Any) -> bool:
    """Of a lazy layer: torch changes the class with the first forward pass, or leaves parameters without a shape."""
    return module.cls_to_become is not None or module.has_uninitialized_params()
