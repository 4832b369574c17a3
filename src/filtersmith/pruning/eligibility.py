"""Which layers a method may work on: convolutions that may lose filters, and those that an optimizer moves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.distributed.tensor import DTensor
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import UninitializedParameter

from filtersmith.common.modules import plain_name
from filtersmith.filters import FilterLayer, weight_of
from filtersmith.graph.channels import ChannelGraph
from filtersmith.reparam.expand import expanded_layer


def refuse_kernels(network: nn.Module) -> None:
    """``ValueError`` where the filters of some convolution are not its own or not those that are deployed."""
    owners = Counter(id(weight) for m in network.modules() if (weight := m._parameters.get("weight")) is not None)
    for name, module in network.named_modules():
        weight = module._parameters.get("weight")
        if (layer := expanded_layer(name, module)) is not None:
            raise ValueError(
                f"layer {layer!r} is expanded, and its filters are not those that are deployed: "
                "use the plain network, fs.collapse(model)"
            )
        if not isinstance(module, _ConvNd) or weight is None:
            continue
        if owners[id(weight)] > 1:
            raise ValueError(
                f"layer {plain_name(name)!r} shares its kernel with another layer, and neither can lose filters: "
                "use a network with a kernel for each layer"
            )
        if isinstance(weight, UninitializedParameter):
            raise ValueError(f"layer {plain_name(name)!r} is lazy and has no weight yet: run one forward pass first")
        if isinstance(weight, DTensor):
            raise ValueError(
                f"the weight of layer {plain_name(name)!r} is sharded, and filters could only be left out of all "
                "shards together: use DistributedDataParallel"
            )


def moved_by(optimizer: Any, layers: Iterable[FilterLayer]) -> list[FilterLayer]:
    """The layers whose weights an optimizer moves: it has them, and they are not frozen."""
    owned = {id(p) for group in optimizer.param_groups for p in group["params"]}
    return [layer for layer in layers if id(layer.weight) in owned and layer.weight.requires_grad]


def eligible_layers(
    graph: ChannelGraph, first_layer: bool, optimizer: Any
) -> tuple[dict[str, FilterLayer], dict[str, str]]:
    """The convolutions that may lose filters, by name, and why the others may not.

    Args:
        graph: of the network.
        first_layer: whether the convolution that is called first is one of them.
        optimizer: layers that it does not move are none of them; unless it moves none at all, which is a mistake to
            be warned of (`filtersmith.optim.hold.warn_if_idle`).

    Raises:
        ValueError: there is none.
    """
    layers: dict[str, FilterLayer] = {}
    reasons = {name: reason for name, reason in graph.reasons.items() if name not in graph.producers}
    for place, producer in enumerate(graph.producers.values()):
        weight = weight_of(producer.module)
        if producer.name in graph.reasons:
            reasons[producer.name] = graph.reasons[producer.name]
        elif weight is None:
            reasons[producer.name] = "its weight is not a parameter but computed from others"
        elif not weight.requires_grad:
            reasons[producer.name] = "its weight is frozen"
        elif place == 0 and not first_layer:
            reasons[producer.name] = "it is the first layer (first_layer=True ranks it, too)"
        else:
            layers[producer.name] = FilterLayer(producer.name, producer.module)
    if not layers:
        shown = "; ".join(f"{name}: {reason}" for name, reason in list(reasons.items())[:3]) or "there is none"
        raise ValueError(f"the network has no convolution whose filters may be left out ({shown})")
    if moved := {layer.name: layer for layer in moved_by(optimizer, layers.values())}:
        reasons |= {name: "the optimizer does not have its weight" for name in layers if name not in moved}
        layers = moved
    return layers, reasons
