"""Entries of parameters that are 0 and stay 0: single weights, and all that a network without some filters lacks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from filtersmith.common.modules import deep_copy, plain_name, unwrap
from filtersmith.filters import FilterLayer, Need, filter_layers
from filtersmith.graph.channels import ChannelGraph
from filtersmith.graph.flow import producers_of, width
from filtersmith.graph.ops import original_class
from filtersmith.graph.sites import Site
from filtersmith.optim.state import clear_elements
from filtersmith.pruning.frozen import is_frozen
from filtersmith.pruning.plan import Plan, inputs_of

Entries = dict[tuple[nn.Module, str], Tensor]
"""Module and name of one of its parameters -> which entries, bool, of the parameter's shape and on its device."""


@torch.no_grad()
def set_zero(optimizer: Any, parameter: Tensor, mask: Tensor) -> None:
    """Exactly 0 in a parameter, what a fresh optimizer holds in its state; called after every step, it stays so.

    Neither gradients nor momentum nor decay then move what is masked, and what comes back starts without a past.

    Args:
        mask: bool, of the parameter's shape and on its device.
    """
    parameter.masked_fill_(mask, 0)
    clear_elements(optimizer, parameter, mask)


@torch.no_grad()
def set_zero_in(network: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Exactly 0, in the weights of a network's layers, by name; ``mask`` is bool, of the weight's shape."""
    modules = {plain_name(name): module for name, module in unwrap(network).named_modules()}
    for name, mask in masks.items():
        weight = modules[name].get_parameter("weight")
        weight.masked_fill_(mask.to(weight.device), 0)


SINGLE_WEIGHTS = Need(linear="always", deployed=True, whole=True)
"""What a layer needs to have its single weights set to 0."""


def single_weights(model: nn.Module, layers: Iterable[str] | None) -> tuple[FilterLayer, ...]:
    """The layers whose single weights may be set to 0: those named, by default all convolutions and linear layers.

    Raises:
        ValueError: no network, no such layer, an unknown name, weights that are not those that are deployed.
    """
    return filter_layers(model, layers, SINGLE_WEIGHTS, "lose weights")


def without_filters(plan: Plan) -> Entries:
    """The entries of parameters that a network without some filters lacks.

    What the filters have for themselves, what their channels pass has for them, and what reads these channels.
    """
    fills = ((one.module, fill) for one in plan.modules.values() for fill in one.fills())
    return {(module, fill.name): fill.mask for module, fill in fills if fill.name in module._parameters}


@torch.no_grad()
def forget_statistics(plan: Plan) -> None:
    """Running mean 0 and running variance 1 for channels of filters that are left out: a norm makes 0 of 0 then.

    Not of a norm that is frozen.
    """
    for one in plan.modules.values():
        for name, mask, value in () if is_frozen(one.module) else one.fills():
            if (statistic := one.module._buffers.get(name)) is not None:
                statistic.masked_fill_(mask, value)


class ByZeros(NamedTuple):
    """How zeros in the parameters make a network without some of its filters.

    Attributes:
        reasons: convolution -> why they do not where it loses some.
        alone: names of the layers whose weights stay as they are: the channels that they lack are 0 by themselves.
    """

    reasons: Mapping[str, str]
    alone: Container[str]


ZEROS_DO = ByZeros({}, ())


def arrives_as_zero(site: Site, producer: str) -> bool:
    """Whether a producer's channels are exactly 0 for a layer that reads them where all that stands for them is 0.

    All that the producer has for them, and the norms on the way.
    """
    return all(name != producer for name, _ in site.spoiled)


def readers_left_alone(network: nn.Module, graph: ChannelGraph) -> dict[str, str]:
    """Layers that read channels, and why no zeros can be put into their weights: ``"whose weight is computed"``."""
    owners, read = _owners(network), _read_by_code(graph)
    reasons = {}
    for site in graph.sites.values():
        if site.role != "consumer":
            continue
        weight = site.module._parameters.get("weight")
        if weight is None:
            reasons[site.name] = "whose weight is computed"
        elif owners[id(weight)] > 1:
            reasons[site.name] = "whose weight is shared"
        elif site.module in read:
            reasons[site.name] = "whose weight is also read by itself"
        elif not _zeros_are_nothing(site):
            reasons[site.name] = "whose class may make something else of zeros"
    return reasons


def by_zeros(network: nn.Module, graph: ChannelGraph) -> ByZeros:
    """Where zeros in the parameters make the network without some filters, and what stays as it is.

    Where channels are only read by layers whose weights are 0 for them, anything may come of them on the way. Where
    a sum needs all of them, or a weight cannot be 0 for them, they have to be 0 themselves.
    """
    owners = _owners(network)
    reasons = dict(graph.not_zero)
    for name, producer in graph.producers.items():
        if any(owners[id(p)] > 1 for p in producer.module.parameters(recurse=False)):
            reasons.setdefault(name, "it shares a parameter with another layer")
    alone = readers_left_alone(network, graph)
    for site in graph.sites.values():
        for name in producers_of(site.inputs) if site.name in alone else ():
            if not arrives_as_zero(site, name):
                spoiler = next(by for of, by in sorted(site.spoiled) if of == name)
                followed = f"it is followed by {site.name}, {alone[site.name]}"
                reasons.setdefault(name, f"{followed}, and {spoiler} something else of zeros before that")
    return ByZeros(reasons, frozenset(alone))


def not_by_zeros(network: nn.Module, graph: ChannelGraph) -> dict[str, str]:
    """The convolutions of which zeros in the parameters do not make the network without some filters, and why."""
    return dict(by_zeros(network, graph).reasons)


def _read_by_code(graph: ChannelGraph) -> set[nn.Module]:
    """The modules of which the network's code reads a tensor by itself, besides calling them."""
    nodes = ((part, node) for part in graph.parts for node in part.graph.nodes if node.op == "get_attr")
    return {part.module.get_submodule(str(node.target).rpartition(".")[0]) for part, node in nodes}


def _owners(network: nn.Module) -> Counter[int]:
    """How many modules have each parameter, by its id."""
    return Counter(id(p) for module in network.modules() for p in module._parameters.values() if p is not None)


@torch.no_grad()
def _zeros_are_nothing(site: Site) -> bool:
    """Whether weights of zeros do to a layer that reads channels what channels of zeros do.

    Of a class of its own, which may standardise its weight, say, that is not sure: a copy of it tries both on noise.
    """
    if original_class(site.module).__module__.startswith("torch.nn."):
        return True
    module: Any = deep_copy(site.module).eval()
    channels = width(site.inputs)
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():  # a gain that starts at 0 would hide everything
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    if isinstance(module, _ConvNd):
        size = [2 * step * side for step, side in zip(module.dilation, module.kernel_size, strict=True)]
    else:
        size = [module.in_features // channels]
    noise = torch.randn(2, channels, *size, generator=generator).to(module.weight)
    gone = torch.arange(0, channels, 2, device=noise.device)
    images = [noise, noise.index_fill(1, gone, 0)]
    if isinstance(module, nn.Linear):
        images = [image.flatten(1) for image in images]
    try:
        without_channels = module(images[1])
        module.weight.masked_fill_(inputs_of(site.module, channels, gone), 0)
        return torch.allclose(module(images[0]), without_channels, rtol=1e-3, atol=1e-5)
    except Exception:  # it takes something else, or more
        return False
