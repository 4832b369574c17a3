"""Frozen parameters: no method writes into them, so that some filters cannot be taken away for good."""

from __future__ import annotations

from collections.abc import Container, Iterator

from torch import nn

from filtersmith.graph.channels import ChannelGraph
from filtersmith.graph.flow import producers_of
from filtersmith.graph.sites import Site


def is_frozen(module: nn.Module) -> bool:
    """Whether a module has parameters of its own, and none of them is trained."""
    trained = [parameter.requires_grad for parameter in module.parameters(recurse=False)]
    return bool(trained) and not any(trained)


def held_by_frozen(graph: ChannelGraph, alone: Container[str] = ()) -> dict[str, str]:
    """The convolutions whose filters cannot be taken away by zeros in parameters that are trained, and why.

    What reads their channels is frozen, so that these would have to be exactly 0 there; or what they pass is, so
    that they are not 0 behind it, where all of them are needed.

    Args:
        alone: names of the layers whose weights cannot be 0 in places, and count as frozen.
    """
    met: dict[str, list[Site]] = {name: [] for name in graph.producers}
    for site in graph.sites.values():
        for name in producers_of(site.inputs):
            met[name].append(site)
    found = {}
    for name, producer in graph.producers.items():
        passed = next(_frozen_on_the_way(name, producer.module, met[name]), None)
        if passed is not None and producer.full_width_reason is not None:
            found[name] = f"{passed}, so that zeros would not be zeros where {producer.full_width_reason}"
        for site in met[name]:
            if site.role != "consumer" or (_trained(site.module, "weight") and site.name not in alone):
                continue
            spoiler = next((f"{by} something else of zeros" for of, by in sorted(site.spoiled) if of == name), None)
            if (why := passed or spoiler) is not None:
                kept = "cannot be 0 in places" if site.name in alone else "is frozen"
                found.setdefault(name, f"the weight of {site.name}, which reads its channels, {kept}, and {why}")
    return found


def _frozen_on_the_way(name: str, module: nn.Module, met: list[Site]) -> Iterator[str]:
    """What a producer's channels have for themselves and nothing may be written into."""
    if not _trained(module, "bias"):
        yield f"the bias of {name} is frozen"
    for site in met:
        if site.has_own and not all(p.requires_grad for p in site.module.parameters(recurse=False)):
            yield f"{site.name} is frozen"


def _trained(module: nn.Module, name: str) -> bool:
    parameter = module._parameters.get(name)
    return parameter is None or parameter.requires_grad
