"""Filters that do nothing, and filters that do what another one does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from filtersmith.common.modules import unwrap
from filtersmith.common.options import number
from filtersmith.graph.channels import channel_graph
from filtersmith.graph.flow import producers_of
from filtersmith.measure.kernels import Kernels, kernels_of
from filtersmith.measure.overlap import cosines
from filtersmith.measure.passes import images_of
from filtersmith.measure.taps import Where, tapped

NOTHING = 1e-6
"""What is below this share of the largest of its layer counts as 0."""


class Duplicate(NamedTuple):
    """Two filters of a layer that point the same way, or opposite ones."""

    layer: str
    filter: int
    other: int
    cosine: float


class Spread:
    """Between which values the channels of a layer lie, batch by batch."""

    def __init__(self) -> None:
        self.observed = 0
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
        return (spread <= NOTHING * spread.nan_to_num(0).max()) & (self.observed > 1)


@torch.no_grad()
def dead_filters(
    model: nn.Module, batches: Iterable[Any] | None = None, layers: Iterable[str] | None = None
) -> dict[str, list[int]]:
    """The filters whose channel does not depend on the image.

    Without data: all weights of a filter are 0, or the scale of its channel in the batch norm right behind is. With
    data also those whose value behind batch norm and activation is the same everywhere on it, such as a ReLU's that
    never opens. Where somebody reads a channel in front of them as well, it may still be used there.

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
    kernels = kernels_of(model, layers)
    dead = {one.name: _of_zeros(one) for one in kernels}
    for name, scale in _scales(model).items():
        if name in dead:
            dead[name] = dead[name] | (scale.abs() <= NOTHING * scale.abs().max())
    if batches is not None:
        for name, constant in _constant(model, list(dead), batches, every=layers is not None).items():
            dead[name] = dead[name] | constant
    return {name: found.nonzero().flatten().tolist() for name, found in dead.items()}


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


def _of_zeros(one: Kernels) -> Tensor:
    norms = torch.linalg.vector_norm(one.filters.double().flatten(1), dim=1).cpu()
    zeros: Tensor = norms <= NOTHING * norms.nan_to_num(0).max()
    return zeros


def _scales(model: nn.Module) -> dict[str, Tensor]:
    """Convolution -> the scales of its channels in a batch norm right behind it."""
    graph = channel_graph(unwrap(model))
    found = {}
    for site in graph.sites.values():
        reads = producers_of(site.inputs)
        alone = len(reads) == 1 and site.within == reads[0]  # nobody reads the channels in front of it
        if alone and isinstance(site.module, _BatchNorm) and site.module.weight is not None:
            found[reads[0]] = site.module.weight.detach().double().cpu()
    return {name: scale for name, scale in found.items() if len(scale) == graph.producers[name].filters}


def _constant(model: nn.Module, names: list[str], batches: Iterable[Any], *, every: bool) -> dict[str, Tensor]:
    """Whether the channel of each filter has one value on all data."""
    spreads = {name: Spread() for name in names}
    where: Where = "after-relu"
    with tapped(model, names, where, lambda name, values: spreads[name].add(values), every=every) as run:
        for images in images_of(batches, run.device):
            run(images)
    return {name: spread.constant() for name, spread in spreads.items() if spread.observed}
