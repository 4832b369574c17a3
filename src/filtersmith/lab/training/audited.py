"""What the filters of the network that would be deployed do after an epoch, where the recipe asks for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from filtersmith import measure
from filtersmith.lab.audit.responses import maps_of
from filtersmith.lab.results.document import Filters
from filtersmith.measure.kernels import kernels_of
from filtersmith.measure.spectrum import rank_of, singular_values_of
from filtersmith.measure.waste import look_for_dead

IMAGES = 2000
"""Test images on which maps are correlated, at most; spread over the set."""


@torch.no_grad()
def filters_of(network: nn.Module, batches: Iterable[Any] | None) -> Filters:
    """Overlap, rank and dead filters of all convolutions; with batches also how their maps correlate.

    Args:
        network: as it would be deployed now; filters that are left out of it are zeros, and dead.
        batches: images with labels; ``None``: weights alone are looked at.
    """
    kernels = kernels_of(network)
    # Each filter of a depthwise layer reads a channel of its own: there are no directions to use.
    spectra = [singular_values_of(one) for one in kernels if not one.depthwise]
    names = [one.name for one in kernels]  # known, so that no graph is made for them again
    dead = look_for_dead(network, layers=names).filters
    correlation = None
    if batches is not None:
        counts = {one.name: len(one.filters) for one in kernels if len(one.filters) > 1}
        found = maps_of(network, counts, batches, dead=False) if counts else {}
        correlation = sum(one.mean for one in found.values()) / len(found) if found else None
    return Filters(
        ortho_sum=measure.ortho_sum(network, names),
        rank=sum(map(rank_of, spectra)) / sum(map(len, spectra)) if spectra else None,
        dead=sum(map(len, dead.values())),
        filters=sum(len(one.filters) for one in kernels),
        correlation=correlation,
    )
