"""Which convolutions may lose filters for a while."""

from __future__ import annotations

from collections import Counter

from torch import nn
from torch.distributed.tensor import DTensor
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import UninitializedParameter

from filtersmith.channels import Channels
from filtersmith.expansion import Expansion
from filtersmith.filters import FilterLayer, plain_name, weight_of
from filtersmith.pairs import Branches


def refuse_kernels(network: nn.Module) -> None:
    """``ValueError`` where the filters of some convolution are not its own or not those that are deployed."""
    owners = Counter(id(weight) for m in network.modules() if (weight := m._parameters.get("weight")) is not None)
    for name, module in network.named_modules():
        weight = module._parameters.get("weight")
        if isinstance(module, (Branches, Expansion)):
            layer = plain_name(name).partition(".parametrizations.")[0]
            raise ValueError(
                f"layer {layer!r} is expanded, and its filters are not those that are deployed: "
                "use the plain network, fs.collapse(model)"
            )
        if not isinstance(module, _ConvNd) or weight is None:
            continue
        if owners[id(weight)] > 1:
            raise ValueError(
                f"layer {plain_name(name)!r} shares its kernel with another layer: none can lose filters"
            )
        if isinstance(weight, UninitializedParameter):
            raise ValueError(f"layer {plain_name(name)!r} is lazy and has no weight yet: run one forward pass first")
        if isinstance(weight, DTensor):
            raise ValueError(
                f"the weight of layer {plain_name(name)!r} is sharded, and filters could only be left out of all "
                "shards together: use DistributedDataParallel"
            )


def eligible_layers(channels: Channels, first_layer: bool) -> tuple[dict[str, FilterLayer], dict[str, str]]:
    """The convolutions that may lose filters, by name, and why the others may not.

    Args:
        channels: of the network.
        first_layer: whether the convolution that is called first is one of them.

    Raises:
        ValueError: there is none.
    """
    layers: dict[str, FilterLayer] = {}
    reasons = dict(channels.unseen)
    for place, producer in enumerate(channels.producers):
        weight = weight_of(producer.module)
        if producer.refusal is not None:
            reasons[producer.name] = producer.refusal
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
    return layers, reasons
