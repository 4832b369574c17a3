"""Which convolutions may lose filters, and which layers an optimizer moves."""

from __future__ import annotations

import logging
from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from filtersmith.common.modules import is_sharded
from filtersmith.common.words import plural
from filtersmith.filters import (
    OF_ALL,
    FilterLayer,
    Need,
    Surroundings,
    cannot,
    filter_layers,
    layers_left_out,
    reason_against,
)
from filtersmith.graph.channels import ChannelGraph
from filtersmith.graph.flow import producers_of
from filtersmith.optim.wrappers import owned_by
from filtersmith.pruning.frozen import held_by_frozen
from filtersmith.pruning.masks import ZEROS_DO, by_zeros

_log = logging.getLogger("filtersmith")

KERNEL = Need(linear="always", rows=False, deployed=True, whole=True)
FILTERS = replace(KERNEL, linear="never", rows=True, plain=True, own=True, own_bias=True, trained=True)
"""What a layer needs to lose filters itself."""
UNRANKED = "it is a linear layer, and the function of the network that ranks may know convolutions only"
POINTWISE = replace(FILTERS, linear="always")
"""Likewise of a linear layer that is a 1x1 convolution."""


def refused_kernels(network: nn.Module) -> dict[str, str]:
    """Layer -> why no layer of its network may lose filters: its kernel is not all here, or not what is deployed."""
    around = Surroundings.of(network)
    found = {}
    for name, module in around.layers.items():
        need = KERNEL if isinstance(module, nn.Linear) else replace(KERNEL, own=True)
        reason = reason_against(name, module, need, around)
        if reason is not None and reason.startswith(OF_ALL):
            found[name] = reason
    return found


def refuse_kernels(network: nn.Module) -> None:
    """``ValueError`` where `refused_kernels` finds one."""
    for name, reason in refused_kernels(network).items():
        raise cannot(name, "lose filters", reason, way_out="")


def moved_by(optimizer: Any, layers: Iterable[FilterLayer]) -> list[FilterLayer]:
    """The layers whose weights an optimizer moves: it has them, and they are not frozen."""
    owned = owned_by(optimizer)
    return [layer for layer in layers if id(layer.weight) in owned and layer.weight.requires_grad]


def layers_kept_whole(
    network: nn.Module, channels: ChannelGraph, first_layer: bool, linear: bool = True
) -> dict[str, str]:
    """Layer -> why it cannot lose filters, of all layers with filters.

    Args:
        network: as its user made it.
        channels: of the network.
        first_layer: whether the convolution that is called first may.
        linear: whether linear layers that are 1x1 convolutions may.
    """
    around = Surroundings.of(network)
    need = {name: POINTWISE if name in channels.linear else FILTERS for name in around.layers}
    reasons = {
        name: reason_against(name, module, need[name], around, channels.reasons)
        for name, module in around.layers.items()
    }
    single = (name for name, producer in channels.producers.items() if producer.filters == 1)
    reasons |= {name: "it has a single filter" for name in single if reasons.get(name, "") is None}
    if not linear:
        reasons |= {name: UNRANKED for name in channels.linear if reasons[name] is None}
    reasons |= {name: why for name, why in _not_its_own(channels, around).items() if reasons.get(name, why) is None}
    first = "" if first_layer else next(iter(channels.producers), "")
    if first in reasons and reasons[first] is None:  # it may also be a branch of a block that is expanded
        reasons[first] = "it is the first layer (first_layer=True ranks it, too)"
    return refused_kernels(network) | {name: reason for name, reason in reasons.items() if reason is not None}


def _not_its_own(channels: ChannelGraph, around: Surroundings) -> dict[str, str]:
    """Convolution -> what its channels pass that has tensors which are not its own: no part of them may go."""
    found: dict[str, str] = {}
    for site in channels.sites.values():
        if site.role != "per-channel":
            continue
        module = site.module
        why = ""
        if is_parametrized(module) or any(isinstance(vars(module).get(name), Tensor) for name in ("weight", "bias")):
            why = "parameters are computed from others"
        elif any(len(around.holders.get(id(p), ())) > 1 for p in module.parameters(recurse=False)):
            why = "parameters are also another module's"
        for name in producers_of(site.inputs) if why else ():
            found.setdefault(name, f"its channels pass {site.name}, whose {why}")
    return found


def eligible_layers(
    network: nn.Module, channels: ChannelGraph, first_layer: bool, optimizer: Any, linear: bool = True
) -> tuple[dict[str, FilterLayer], dict[str, str]]:
    """The convolutions that may lose filters, by name, and why the others may not.

    Args:
        network: as its user made it.
        channels: of the network.
        first_layer: whether the convolution that is called first is one of them.
        optimizer: layers that it does not move are none of them; unless it moves none at all, which is a mistake to
            be warned of (`filtersmith.optim.ownership.warn_of_unowned`).
        linear: whether linear layers that are 1x1 convolutions are some of them.

    Raises:
        ValueError: there is none.
    """
    every = Surroundings.of(network).layers
    reasons = layers_kept_whole(network, channels, first_layer, linear)
    makes = [n for n, module in every.items() if n in channels.linear or not isinstance(module, nn.Linear)]
    reasons = {name: reasons[name] for name in makes if name in reasons}
    eligible = [name for name in channels.producers if name not in reasons]
    layers = {name: FilterLayer(name, every[name]) for name in eligible}
    if not layers:
        shown = "; ".join(f"{name}: {reason}" for name, reason in list(reasons.items())[:3]) or "there is none"
        raise ValueError(f"the network has no convolution whose filters may be left out ({shown})")
    if moved := {layer.name: layer for layer in moved_by(optimizer, layers.values())}:
        reasons |= {name: "the optimizer does not have its weight" for name in layers if name not in moved}
        layers = moved
    return layers, reasons


def prunable_layers(
    network: nn.Module, channels: ChannelGraph, first_layer: bool, names: Iterable[str] | None, optimizer: Any
) -> tuple[dict[str, FilterLayer], dict[str, str], Container[str]]:
    """The layers of `eligible_layers` that zeros in the parameters do prune, by name.

    Returns:
        these; why the others stay whole; the layers whose weights stay as they are (`ByZeros.alone`).

    Raises:
        ValueError: there is none; ``names`` has a layer that is none of them.
    """
    layers, reasons = eligible_layers(network, channels, first_layer, optimizer)
    unfit, alone = by_zeros(network, channels)
    unfit = held_by_frozen(channels, alone) | dict(unfit)
    reasons |= {name: unfit[name] for name in layers if name in unfit}
    layers = {name: layer for name, layer in layers.items() if name not in unfit}
    if names is not None:
        wanted = [layer.name for layer in filter_layers(network, names, doing="lose filters")]
        for name in wanted:
            if name not in layers:
                raise cannot(name, "lose filters", reasons.get(name, "it is a linear layer"))
        layers = {name: layer for name, layer in layers.items() if name in wanted}
    if not layers:
        name, reason = next(iter(unfit.items()))
        raise ValueError(f"the network has no convolution whose filters may be left out ({name}: {reason})")
    return layers, reasons, alone


def layers_not_pruned(
    network: nn.Module, channels: ChannelGraph, first_layer: bool, names: Iterable[str] | None
) -> dict[str, str]:
    """Layer -> why it is none of `prunable_layers`, of all layers with filters."""
    others = {} if names is None else layers_left_out(network, names)
    # It tries copies; shards cannot be copied.
    unfit, alone = ZEROS_DO if is_sharded(network) else by_zeros(network, channels)
    return others | held_by_frozen(channels, alone) | dict(unfit) | layers_kept_whole(network, channels, first_layer)


def share_of_filters(option: str, share: float, layers: Collection[FilterLayer], keep_min: int) -> int:
    """How many filters a share of all of them is. ``ValueError`` where ``keep_min`` of each layer could not stay."""
    filters = sum(layer.filters for layer in layers)
    spare = sum(max(0, layer.filters - keep_min) for layer in layers)
    if (count := round(share * filters)) > spare:
        raise ValueError(
            f"{option} must be at most {spare / filters:.3g} for keep_min={keep_min} to stay in each of "
            f"{plural(len(layers), 'layer')} with {plural(filters, 'filter')}, got {share}"
        )
    return count


def log_what_stays(method: str, reasons: Mapping[str, str]) -> None:
    """Say in the log which layers keep all of their filters, and why."""
    for name, reason in reasons.items():
        _log.info("%s leaves the filters of %s alone: %s", method, name, reason)
