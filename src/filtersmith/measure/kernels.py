"""The filters of a network's layers as plain tensors, whatever makes their weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from filtersmith.common.distributed import local
from filtersmith.common.modules import unwrap
from filtersmith.common.options import layer_names, unknown_name
from filtersmith.common.words import noun
from filtersmith.filters import Surroundings, cannot, filter_major, is_expansion, sums_branches, transposed_groups
from filtersmith.filters.reasons import LAZY, META, SHARDED
from filtersmith.graph.channels import channel_graph
from filtersmith.graph.sites import is_depthwise
from filtersmith.reparam import collapse


@dataclass(frozen=True)
class Kernels:
    """The filters of a layer.

    Attributes:
        name: of the layer.
        filters: filter-major, ``(n, c/g, *k)``; of a linear layer ``(n, c)``. Detached.
        groups: g; filters of other groups read other channels.
        depthwise: whether every filter reads a channel of its own.
    """

    name: str
    filters: Tensor
    groups: int = 1
    depthwise: bool = False


def kernels_of(model: nn.Module, layers: Iterable[str] | None = None) -> list[Kernels]:
    """The filters of a network's convolutions, in its order: those that are deployed, where it is expanded.

    Args:
        model: the network; wrapped, compiled or expanded as well. It is left alone. Of a layer whose own code
            standardises its weights in each call (`timm.layers.StdConv2d`) those that are stored.
        layers: names of convolutions or linear layers; by default all convolutions, with the linear layers that are
            1x1 convolutions (ConvNeXt).

    Raises:
        ValueError: an unknown layer, one without values, no convolution at all.
    """
    around, network = Surroundings.of(model), unwrap(model)
    if any(sums_branches(module) or is_expansion(module) for module in around.layers.values()):
        network = collapse(network)
        around = Surroundings.of(network)
    chosen = _convolutions(network, around) if layers is None else layer_names(layers)
    for name in chosen:
        if name not in around.layers:
            raise unknown_name("layer", name, around.layers)
    return [_kernels(name, around.layers[name]) for name in chosen]


def convolutions(model: nn.Module) -> list[str]:
    """A network's convolutions, with the linear layers that are 1x1 convolutions; ``ValueError`` without one."""
    return _convolutions(unwrap(model), Surroundings.of(model))


def _convolutions(network: nn.Module, around: Surroundings) -> list[str]:
    linear = {name for name, module in around.layers.items() if isinstance(module, nn.Linear)}
    pointwise = channel_graph(network).linear if linear else set[str]()
    found = [name for name in around.layers if name not in linear or name in pointwise]
    if not found:
        scripted = " that can be told: give the network as it was before torch.jit"
        raise ValueError(
            f"{type(network).__name__} has no convolution" + scripted * isinstance(network, torch.jit.ScriptModule)
        )
    return found


def listed(names: Sequence[str], most: int = 10) -> str:
    """Layers in a sentence.

    >>> listed(["a"]), listed(["a", "b", "c"], 2)
    ("layer 'a'", "layers 'a', 'b', ... (3 in all)")
    """
    more = f", ... ({len(names)} in all)" * (len(names) > most)
    return noun(len(names), "layer") + " " + ", ".join(map(repr, names[:most])) + more


@contextmanager
def _as_deployed(module: nn.Module) -> Iterator[None]:
    """Parametrizations in evaluation mode: a spectral norm would take a step in its own buffers."""
    inside = [part for part in module.modules() if part is not module and part.training]
    for part in inside:
        part.training = False
    try:
        yield
    finally:
        for part in inside:
            part.training = True


def weight_as_used(module: Any) -> Tensor:
    """The weight with which a layer computes in evaluation mode, whatever makes it; nothing is written anywhere.

    Where a hook makes it before each call (`torch.nn.utils.prune`, the older weight and spectral norm), the layer's
    attribute is only what the last call had.
    """
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, prune.BasePruningMethod) and hook._tensor_name == "weight":
            masked: Tensor = hook.apply_mask(module)
            return masked
        if isinstance(hook, WeightNorm) and hook.name == "weight":
            computed: Tensor = hook.compute_weight(module)
            return computed
        if isinstance(hook, SpectralNorm) and hook.name == "weight":
            return hook.compute_weight(module, do_power_iteration=False)
    with _as_deployed(module):
        weight: Tensor = module.weight
    return weight


def _kernels(name: str, module: Any) -> Kernels:
    weight = weight_as_used(module)
    why = LAZY if is_lazy(weight) else META if weight.is_meta else None
    if why is None and local(weight).shape != weight.shape:
        why = SHARDED
    if why is not None:
        raise cannot(name, "be measured", why)
    filters = filter_major(local(weight).detach(), transposed_groups(module))
    return Kernels(name, filters, getattr(module, "groups", 1), is_depthwise(module))
