"""Pictures of what filters do: the maps that they make of an image, and images that excite them most."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from filtersmith import measure
from filtersmith.lab.audit.images import Images
from filtersmith.lab.audit.responses import Maps, spread_over
from filtersmith.lab.audit.weights import of_one_kernel
from filtersmith.measure.evaluation import device_of, undisturbed
from filtersmith.measure.maps import NotMapsError

LAYERS, FILTERS, CHANNELS = 3, 9, 16
"""Layers of which images are made, with so many filters each; channels of the first layer that are shown."""
SHARING = 8
"""Layers of one kernel of which images are made, where layers share one (DACNN, Fig. 7)."""
STEPS = 200
"""In which an image is made."""
LARGEST, LONGEST = 96, 120
"""Pixels a side up to which images are made, and seconds that they may take."""


@dataclass(frozen=True)
class Sight:
    """What the first layer of a network makes of a test image.

    Attributes:
        image: ``(channels, height, width)`` in [0, 1].
        layer: the first one.
        maps: of its first filters, ``(filters, height, width)``, each from its lowest to its highest value.
        constant: share of all maps of the layer that hardly vary (a standard deviation below 1e-3).
    """

    image: Tensor
    layer: str
    maps: Tensor
    constant: float


@dataclass(frozen=True)
class Exciting:
    """Images that excite filters of a layer most: ``(filters, channels, height, width)`` in [0, 1]."""

    layer: str
    filters: tuple[int, ...]
    images: Tensor


def sight(network: nn.Module, layers: Sequence[str], images: Images) -> Sight | None:
    """What the first of the layers makes of a test image; ``None`` without one, or where its maps are no pictures."""
    if not layers:
        return None
    batch = next(iter(images.batches(8)))[0]
    mean, std = (torch.tensor(one).view(-1, 1, 1) for one in (images.mean, images.std))
    try:
        found = measure.feature_maps(network, layers[0], batch)
    except NotMapsError:
        return None
    image = (batch[0] * std + mean).clamp(0, 1)
    return Sight(image, layers[0], found.maps[0, :CHANNELS], found.constant)


def excited(network: nn.Module, layers: Sequence[str], images: Images) -> tuple[list[str], str]:
    """The layers for whose filters images are made: those of one kernel, or some.

    Returns:
        The layers, and why there are none: images are large, or the network takes long.
    """
    side = max(images.data.test.height_width)
    if side > LARGEST:
        return [], f"What excites filters is not drawn: {side} pixels a side are more than {LARGEST}."
    most = max(of_one_kernel(network, layers), key=len, default=[])
    chosen = spread_over(most, SHARING) if most else spread_over(layers, LAYERS)
    seconds = STEPS * 3 * _seconds(network, images) * len(chosen)  # backwards takes twice as long as forwards
    if seconds > LONGEST:
        return [], f"What excites filters is not drawn: it would take {seconds / 60:.0f} minutes."
    return chosen, ""


def _seconds(network: nn.Module, images: Images) -> float:
    """How long the network takes for as many images as are made at once."""
    batch = next(iter(images.batches(FILTERS)))[0].to(device_of(network))
    with torch.no_grad(), undisturbed(network):
        network(batch)  # the first call makes more
        start = time.perf_counter()
        network(batch)
        return time.perf_counter() - start


def exciting(
    network: nn.Module, maps: dict[str, Maps], images: Images, step: Callable[[], None] = lambda: None
) -> tuple[Exciting, ...]:
    """What excites filters of these layers."""
    found = []
    for layer, of_layer in maps.items():
        found.append(_exciting(network, layer, of_layer, images))
        step()
    return tuple(found)


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
        steps=STEPS,
    )
    return Exciting(layer, tuple(alive), made)
