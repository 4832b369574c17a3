"""What the filters of a network do on images: how alike their maps are, and which of them are dead."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from filtersmith import measure
from filtersmith.lab.audit.images import Images
from filtersmith.measure.correlation import Moments, observations
from filtersmith.measure.passes import images_of
from filtersmith.measure.spectrum import rank_of
from filtersmith.measure.taps import Run, See, Where, tapped
from filtersmith.measure.waste import Spread

MOST = 64
"""Filters of a layer whose maps are correlated: more would not fit a picture."""
SIMILAR = 24
"""Layers whose similarity is measured, spread over the network."""
DRAWN = 4
"""Layers whose correlations are drawn, spread over the network."""
MEANS = 1000
"""Images on which layers are compared, at most: chance is 0.001 there."""
HIGH = (0.3, 0.5)
"""Correlations that are counted (RePr, Sec. 3, takes those above 0.3 as too high)."""


@dataclass(frozen=True)
class Maps:
    """The maps of a layer's filters, behind its batch norm and before its activation function.

    Attributes:
        filters: which were taken, by number.
        correlation: Pearson's r of every two of them over images and positions.
        mean: of |r| of different filters.
        above: shares of the pairs with |r| above 0.3 and 0.5.
        rank: effective rank of the correlations.
        constant: filters of the whole layer whose channel, behind the activation function, never changes; none where
            nobody looked for them.
        folded: whether the layer is given other batches than the network: parts of an image, or of the images.
    """

    filters: tuple[int, ...]
    correlation: Tensor
    mean: float
    above: tuple[float, ...]
    rank: float
    constant: tuple[int, ...]
    folded: bool = False


def sampled(layer: str, filters: int, seed: int) -> tuple[int, ...]:
    """Which filters of a layer are taken: all of few, otherwise so many of them by the seed."""
    if filters <= MOST:
        return tuple(range(filters))
    return tuple(sorted(random.Random(f"{seed} {layer}").sample(range(filters), MOST)))


def maps_of(
    network: nn.Module,
    layers: dict[str, int],
    batches: Iterable[tuple[Tensor, Tensor]],
    seed: int = 0,
    step: Callable[[], None] = lambda: None,
    *,
    dead: bool = True,
) -> dict[str, Maps]:
    """What the filters of layers do on images; sums are held, and no maps.

    Args:
        network: in evaluation mode.
        layers: name -> number of filters; those that are not called are left out.
        batches: images, or images with labels.
        seed: of the choice of filters.
        step: told after each batch.
        dead: whether channels that never change are looked for, which takes a second pass.
    """
    chosen = {name: torch.tensor(sampled(name, count, seed)) for name, count in layers.items()}
    moments = {name: Moments() for name in layers}
    spreads = {name: Spread() for name in layers}
    folded: set[str] = set()
    given = 0

    def correlate(name: str, values: Tensor) -> None:
        if len(values) != given:
            folded.add(name)
        moments[name].add(observations(f"layer {name!r}", values[:, chosen[name].to(values.device)]))

    def extend(name: str, values: Tensor) -> None:
        spreads[name].add(values)

    def watched(where: Where, see: See) -> AbstractContextManager[Run]:
        return tapped(network, layers, where, see, every=False)

    with watched("after-bn", correlate) as run, watched("after-relu", extend) as again:
        for images in images_of(batches, run.device):
            given = len(images)
            run(images)
            if dead:
                again(images)
            step()
    called = [name for name in layers if moments[name].count]
    return {name: _maps(chosen[name], moments[name], spreads[name], name in folded) for name in called}


def _maps(chosen: Tensor, moments: Moments, spread: Spread, folded: bool) -> Maps:
    found = moments.correlation()
    count = len(found)
    pairs = torch.triu_indices(count, count, 1)
    every = found[pairs[0], pairs[1]].abs()
    values = torch.linalg.eigvalsh(found).clamp(min=0).sqrt()
    return Maps(
        tuple(chosen.tolist()),
        found,
        float(every.mean()) if len(every) else 0.0,
        tuple(float((every > high).double().mean()) if len(every) else 0.0 for high in HIGH),
        rank_of(values),
        tuple(spread.constant().nonzero().flatten().tolist()) if spread.observed else (),
        folded,
    )


def whole(maps: dict[str, Maps]) -> list[str]:
    """The layers that are given whole images, each once, so that what they give can be told by image."""
    return [name for name, one in maps.items() if not one.folded]


def drawn(maps: dict[str, Maps]) -> list[str]:
    """The layers whose correlations are drawn."""
    return spread_over([name for name in whole(maps) if len(maps[name].filters) > 1], DRAWN)


def canonical(network: nn.Module, maps: dict[str, Maps], names: Sequence[str], images: Images) -> dict[str, Tensor]:
    """The first canonical correlation of the maps of every two filters of these layers.

    Maps are averaged to 4x4, or fewer of few images: 50 for each position (methods of WAU and RePr).
    """
    side = next((side for side in (4, 3, 2) if images.count >= 50 * side**2), 1)
    batches = images.batches(50 * side**2)
    found = measure.activations(network, names, batches, pool=side) if names and images.count > 5 else {}
    return {name: measure.cca(values[:, list(maps[name].filters)]) for name, values in found.items()}


def spread_over(names: Sequence[str], most: int) -> list[str]:
    """So many of the names, evenly, with the first and the last."""
    if len(names) <= most:
        return list(names)
    return [names[round(k * (len(names) - 1) / (most - 1))] for k in range(most)]


def similarity(
    one: dict[str, Tensor], other: dict[str, Tensor], step: Callable[[], None] = lambda: None
) -> list[list[float]]:
    """CKA of every layer of one network with every one of another, on the same images."""
    found = []
    for ours in one.values():
        found.append([float(measure.cka(ours, theirs)) for theirs in other.values()])
        step()
    return found
