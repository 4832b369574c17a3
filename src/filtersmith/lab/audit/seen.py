"""Pictures of what filters do: the maps that they make of an image, and images that excite them most."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from filtersmith import measure
from filtersmith.lab.audit.images import Images
from filtersmith.lab.audit.responses import Maps, spread_over

LAYERS, FILTERS, CHANNELS = 3, 9, 16
"""Layers of which images are made, with so many filters each; channels of the first layer that are shown."""
LARGEST = 96
"""Pixels a side up to which images are made: larger ones take minutes."""


@dataclass(frozen=True)
class Exciting:
    """Images that excite filters of a layer most: ``(filters, channels, height, width)`` in [0, 1]."""

    layer: str
    filters: tuple[int, ...]
    images: Tensor


@dataclass(frozen=True)
class Seen:
    """What is drawn.

    Attributes:
        image: a test image, ``(channels, height, width)`` in [0, 1].
        layer: the first one.
        maps: what its filters make of the image, ``(channels, height, width)``, each from its lowest to its highest.
        constant: share of all maps of the layer that hardly vary (a standard deviation below 1e-3).
        exciting: of some layers.
    """

    image: Tensor
    layer: str
    maps: Tensor
    constant: float
    exciting: tuple[Exciting, ...] = ()


def seen(
    network: nn.Module, maps: dict[str, Maps], images: Images, step: Callable[[], None] = lambda: None
) -> Seen | None:
    """What a network's filters see; ``None`` where the first layer's maps are no pictures."""
    batch = next(iter(images.batches(8)))[0]
    mean, std = (torch.tensor(one).view(-1, 1, 1) for one in (images.mean, images.std))
    first = next(iter(maps))
    try:
        found = measure.feature_maps(network, first, batch)
    except ValueError:  # maps of another dimension
        return None
    small = max(images.data.test.height_width) <= LARGEST
    exciting = []
    for layer in spread_over(list(maps), LAYERS) if small else ():
        exciting.append(_exciting(network, layer, maps[layer], images))
        step()
    image = (batch[0] * std + mean).clamp(0, 1)
    return Seen(image, first, found.maps[0, :CHANNELS], found.constant, tuple(exciting))


def _exciting(network: nn.Module, layer: str, maps: Maps, images: Images) -> Exciting:
    """Of the first filters that are not dead."""
    alive = [f for f in maps.filters if f not in set(maps.constant)][:FILTERS] or list(maps.filters[:FILTERS])
    made = measure.maximise_activation(
        network,
        layer,
        alive,
        size=images.data.test.height_width,
        channels=images.data.channels,
        mean=images.mean,
        std=images.std,
        where="after-relu",
    )
    return Exciting(layer, tuple(alive), made)
