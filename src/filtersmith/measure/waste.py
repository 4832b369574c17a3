"""Filters that do nothing, and filters that do what another one does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from filtersmith.common.modules import plain_name, unwrap
from filtersmith.common.options import number
from filtersmith.common.said import warn_user
from filtersmith.common.words import plural
from filtersmith.filters import outputs_of
from filtersmith.graph.channels import ChannelGraph, channel_graph
from filtersmith.graph.flow import producers_of
from filtersmith.graph.sites import is_depthwise
from filtersmith.measure.kernels import Kernels, kernels_of, listed, weight_as_used
from filtersmith.measure.overlap import cosines
from filtersmith.measure.passes import images_of
from filtersmith.measure.taps import Where, tapped

NOTHING = 1e-6
"""What is below this share of the largest of its layer counts as 0."""

NOT_TRACED = ("torch.fx cannot trace", "torch.fx can trace")
"""How the channel graph's reasons end where a layer, or what reads it, is not in a graph."""


class Duplicate(NamedTuple):
    """Two filters of a layer that point the same way, or opposite ones."""

    layer: str
    filter: int
    other: int
    cosine: float


class Spread:
    """Between which values the channels of a layer lie, batch by batch."""

    def __init__(self) -> None:
        self.observed: int = 0
        self._least = self._most = torch.empty(0)

    def add(self, values: Tensor) -> None:
        """Those of ``(samples, channels, *positions)``."""
        flat = values.transpose(0, 1).flatten(1)
        low, high = (one.double().cpu() for one in flat.aminmax(dim=1))
        if self.observed:
            low, high = torch.minimum(self._least, low), torch.maximum(self._most, high)
        self._least, self._most = low, high
        self.observed += flat.shape[1]

    def constant(self) -> Tensor:
        """Which channels have one value; none where there was only one observation, which is always the same."""
        spread = self._most - self._least
        return _nothing(spread) & (self.observed > 1)


@dataclass(frozen=True)
class Dead:
    """The filters of layers that are dead, as far as somebody looked.

    Attributes:
        filters: layer -> which, ascending.
        unseen: layer -> why not all that may kill its filters was looked at.
    """

    filters: dict[str, list[int]]
    unseen: dict[str, str]


@torch.no_grad()
def dead_filters(
    model: nn.Module, batches: Iterable[Any] | None = None, layers: Iterable[str] | None = None
) -> dict[str, list[int]]:
    """The filters whose channel does not depend on the image.

    Without data: all weights of a filter are 0, or the scale of its channel in the batch norm right behind is. With
    data also those whose value behind batch norm and activation is the same everywhere on it, such as a ReLU's that
    that never opens. Where somebody reads a channel in front of them as well, it may still be used there.

    A warning names layers at which nobody could look: without data those of a part that torch.fx cannot trace, in a
    network with batch norms there; with data those that are not called as modules.

    Example:
        >>> import torch, filtersmith as fs
        >>> layer = torch.nn.Conv2d(3, 4, 3)
        >>> layer.weight.data[2] = 0
        >>> fs.measure.dead_filters(torch.nn.Sequential(layer))
        {'0': [2]}

    Args:
        model: the network, which is left as it was.
        batches: of images, or ``(images, labels)``; none: by the weights alone.
        layers: by default all convolutions.

    Returns:
        Layer name -> filters, ascending; an empty list where all live. What is below 1e-6 of the layer's largest
        counts as 0.

    Raises:
        ValueError: an unknown layer, no convolution, empty data, a layer that the network does not call.

    Source: own work; of activations that are 0 as APoZ has it, https://arxiv.org/abs/1607.03250
    """
    found = look_for_dead(model, batches, layers)
    reasons = list(dict.fromkeys(found.unseen.values()))
    if reasons:
        more = f" (and {plural(len(reasons) - 1, 'other reason')})" * (len(reasons) > 1)
        warn_user(f"dead filters of {listed(list(found.unseen))} may be missed: {reasons[0]}{more}")
    return found.filters


@torch.no_grad()
def look_for_dead(
    model: nn.Module, batches: Iterable[Any] | None = None, layers: Iterable[str] | None = None
) -> Dead:
    """As `dead_filters`, with the layers at which nobody could look as a value and no warning."""
    dead = {one.name: _of_zeros(one) for one in kernels_of(model, layers)}
    graph = channel_graph(unwrap(model))
    scaled = _of_scales(graph)
    dead = {name: of_layer | scaled[name] if name in scaled else of_layer for name, of_layer in dead.items()}
    unseen = _behind_what_is_not_traced(unwrap(model), graph, dead.keys() - scaled.keys())
    if batches is not None:
        constant = _constant(model, list(dead), batches, every=layers is not None)
        for name, of_layer in constant.items():
            dead[name] = dead[name] | of_layer
        unseen = dict.fromkeys(dead.keys() - constant.keys(), "not called as a module on these images")
    filters = {name: found.nonzero().flatten().tolist() for name, found in dead.items()}
    return Dead(filters, {name: unseen[name] for name in dead if name in unseen})


@torch.no_grad()
def near_duplicates(
    model: nn.Module, layers: Iterable[str] | None = None, *, threshold: float = 0.95
) -> list[Duplicate]:
    """Every two filters of a layer with a ``|cosine|`` of at least a threshold, the most alike first.

    Filters of few weights are alike by chance: two random ones of 9 weights have 0.95 once in 40,000 pairs, of 3
    weights once in 20.

    Example:
        >>> import torch, filtersmith as fs
        >>> layer = torch.nn.Conv2d(3, 4, 3)
        >>> layer.weight.data[3] = -2 * layer.weight.data[1]
        >>> [(d.layer, d.filter, d.other, round(d.cosine, 3)) for d in fs.measure.near_duplicates(layer)]
        [('', 1, 3, -1.0)]

    Args:
        model: the network.
        layers: by default all convolutions.
        threshold: in (0, 1]; 0.95 by default.

    Returns:
        ``(layer, filter, other, cosine)`` with ``filter < other``; a cosine below 0 is of opposite sign. Filters that
        are 0 or not finite are like none.

    Raises:
        ValueError: a threshold out of range, an unknown layer, no convolution.

    Source: own work; the cosines are those of *RePr*, Eq. 1, https://arxiv.org/abs/1811.07275
    """
    least = number("threshold", threshold, lambda x: 0 < x <= 1, "a number in (0, 1]")
    found = []
    for one in kernels_of(model, layers):
        products = cosines(one.filters.double(), one.groups).triu(1)
        size = products.shape[-1]
        # Rounding: a copy times a number has a cosine of 1 to the last digits of its weights.
        for group, i, j in (products.abs() >= min(least, 1 - 1e-7)).nonzero().tolist():
            cosine = max(-1.0, min(1.0, float(products[group, i, j])))
            found.append(Duplicate(one.name, group * size + i, group * size + j, cosine))
    return sorted(found, key=lambda pair: -abs(pair.cosine))


def _nothing(sizes: Tensor) -> Tensor:
    """Which are 0 beside the largest that is finite; what is not finite is not 0."""
    sizes = sizes.abs()
    largest = sizes.where(sizes.isfinite(), 0).max()
    return sizes <= NOTHING * largest


def _of_zeros(one: Kernels) -> Tensor:
    return _nothing(torch.linalg.vector_norm(one.filters.double().flatten(1), dim=1).cpu())


def _of_scales(graph: ChannelGraph) -> dict[str, Tensor]:
    """Convolution -> which of its channels a batch norm right behind it scales by 0, where there is one."""
    last: dict[str, str] = {}  # producer -> the depthwise convolution that its channels have passed
    found: dict[str, Tensor] = {}
    for site in graph.sites.values():
        reads = producers_of(site.inputs)
        if len(reads) != 1 or site.within != reads[0]:  # somebody else reads the channels in front of it
            continue
        name = last.get(reads[0], reads[0])
        if is_depthwise(site.module):
            last[reads[0]] = site.name
        elif isinstance(site.module, _BatchNorm) and site.module.weight is not None:
            scale = weight_as_used(site.module).detach().double().cpu()
            if name in graph.convolutions and len(scale) == outputs_of(graph.convolutions[name]):
                found[name] = found.get(name, torch.tensor(False)) | _nothing(scale)
    return found


def _behind_what_is_not_traced(network: nn.Module, graph: ChannelGraph, names: Iterable[str]) -> dict[str, str]:
    """Layer -> why a batch norm right behind it would not be known; none where the graph has every batch norm."""
    norms = {plain_name(name) for name, m in network.named_modules() if isinstance(m, _BatchNorm) and m.affine}
    if norms <= graph.sites.keys():
        return {}
    reasons = {name: graph.reasons.get(name, "") for name in names}
    return {name: reason for name, reason in reasons.items() if reason.endswith(NOT_TRACED)}


def _constant(model: nn.Module, names: list[str], batches: Iterable[Any], *, every: bool) -> dict[str, Tensor]:
    """Whether the channel of each filter has one value on all data."""
    spreads = {name: Spread() for name in names}
    where: Where = "after-relu"
    with tapped(model, names, where, lambda name, values: spreads[name].add(values), every=every) as run:
        for images in images_of(batches, run.device):
            run(images)
    return {name: spread.constant() for name, spread in spreads.items() if spread.observed}
