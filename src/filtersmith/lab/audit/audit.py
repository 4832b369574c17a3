"""An audit: everything that is measured of a network, beside the same network with random weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from filtersmith import measure
from filtersmith.common.options import bad_option
from filtersmith.common.words import plural
from filtersmith.lab.audit.images import Images
from filtersmith.lab.audit.oracle import Worth, worth_of
from filtersmith.lab.audit.responses import (
    MEANS,
    SIMILAR,
    Maps,
    canonical,
    drawn,
    maps_of,
    similarity,
    spread_over,
    whole,
)
from filtersmith.lab.audit.seen import Exciting, Sight, excited, exciting, sight
from filtersmith.lab.audit.target import Target
from filtersmith.lab.audit.weights import Layer, by_weights
from filtersmith.measure.kernels import kernels_of, listed

NULL_SEED = 1
"""Of the random network; a target without weights is drawn with 0."""


@dataclass(frozen=True)
class Against:
    """The network in the other triangle of the pictures, and how alike the two are.

    Attributes:
        title: of it.
        maps: what its filters do on the same images.
        canonical: canonical correlations of the maps of some layers.
        similar: the names of layers of the target, and of it, whose similarity was measured.
        cka: of each with each.
        sight: what its first layer makes of the same test image.
    """

    title: str
    maps: dict[str, Maps] = field(default_factory=dict)
    canonical: dict[str, Tensor] = field(default_factory=dict)
    similar: tuple[list[str], list[str]] = field(default_factory=lambda: ([], []))
    cka: list[list[float]] = field(default_factory=list)
    sight: Sight | None = None


@dataclass(frozen=True)
class Audit:
    """What was measured.

    Attributes:
        target: the network.
        layers: by their weights.
        images: on how many images; 0 without data.
        data: title of the data; empty without.
        maps: what filters do on them.
        random_maps: what those of the random network do.
        canonical: canonical correlations of the maps of the layers that are drawn.
        against: the other network: the random one, or the one of ``--against``.
        worth: the Oracle.
        sight: what the first layer makes of a test image.
        exciting: what excites filters of some layers.
        notes: what could not be measured, and why.
    """

    target: Target
    layers: list[Layer]
    images: int = 0
    data: str = ""
    maps: dict[str, Maps] = field(default_factory=dict)
    random_maps: dict[str, Maps] = field(default_factory=dict)
    canonical: dict[str, Tensor] = field(default_factory=dict)
    against: Against | None = None
    worth: Worth | None = None
    sight: Sight | None = None
    exciting: tuple[Exciting, ...] = ()
    notes: tuple[str, ...] = ()

    def dead(self, layer: Layer) -> tuple[int, ...]:
        """The dead filters of a layer: by the weights, and on the images where there are some."""
        on_images = self.maps[layer.name].constant if layer.name in self.maps else ()
        return tuple(sorted({*layer.dead, *on_images}))


Progress = Callable[[str, int], Callable[[], None]]
"""Told of a piece of work and its steps; what it gives is called after each step."""


def audit(
    target: Target,
    images: Images | None,
    *,
    against: tuple[Target, Images] | None = None,
    oracle: int = 0,
    progress: Progress = lambda what, steps: lambda: None,
) -> Audit:
    """Measure a network.

    Args:
        target: the network.
        images: on what; without images only weights are looked at.
        against: another network for the other triangle, with the same images as it knows them; by default the random
            one.
        oracle: on how many images filters are left out one by one; 0: not at all.
        progress: shows how far it is.

    Raises:
        ValueError: no convolution, a network that cannot take the images.
    """
    random = target.drawn(NULL_SEED)
    convolutions = sum(isinstance(module, _ConvNd) for module in target.network.modules())
    layers = by_weights(target.network, random, progress("weights", convolutions))
    notes = list(_unseen(layers))
    if images is None:
        return Audit(target, layers, notes=tuple(notes))
    if broken := [one.name for one in layers if one.not_finite]:
        return Audit(target, layers, notes=(*notes, f"{_not_finite(broken)}: nothing is measured on images."))
    steps = -(-images.count // images.batch)
    counts = {layer.name: layer.filters for layer in layers}
    maps = maps_of(target.network, counts, images.batches(), step=progress("maps", steps))
    notes += _not_measured(layers, maps)
    if not maps:
        return Audit(target, layers, notes=tuple(notes))
    counts = {name: counts[name] for name in maps}  # those that are called
    null = maps_of(random, counts, images.batches(), step=progress("maps of the random network", steps), dead=False)
    other = _against(maps, target, against, random, images, null, progress)
    worth = worth_of(target.network, images.batches(oracle)) if oracle else None
    layer_by_layer = whole(maps)
    made = {name: maps[name] for name in excited(target.network, layer_by_layer, images)}
    return Audit(
        target,
        layers,
        images.count,
        images.data.title,
        maps,
        null,
        canonical(target.network, maps, drawn(maps), images),
        other,
        worth,
        sight(target.network, layer_by_layer, images),
        exciting(target.network, made, images, progress("pictures of filters", len(made))),
        tuple(notes),
    )


def _against(
    maps: dict[str, Maps],
    target: Target,
    against: tuple[Target, Images] | None,
    random: nn.Module,
    images: Images,
    null: dict[str, Maps],
    progress: Progress,
) -> Against:
    """The other network on the same images; one with other layers has its own."""
    title, network, its, there = "random weights", random, images, null
    if against is not None:
        other, its = against
        title, network = other.title, other.network
        kernels = kernels_of(network)
        if broken := [one.name for one in kernels if not one.filters.isfinite().all()]:
            raise bad_option("against", title, f"finite: {_not_finite(broken)}")
        steps = progress(f"maps of {title}", -(-its.count // its.batch))
        counts = {one.name: len(one.filters) for one in kernels}
        there = maps_of(network, counts, its.batches(), step=steps, dead=False)
    ours, theirs = (spread_over(whole(of), SIMILAR) for of in (maps, there))
    means = _means(target.network, ours, images), _means(network, theirs, its)
    cka = similarity(*means, progress("similarity", len(ours)))
    seen = sight(network, whole(there), its)
    same = [name for name in drawn(maps) if name in there and there[name].filters == maps[name].filters]
    return Against(title, there, canonical(network, there, same, its), (ours, theirs), cka, seen)


def _unseen(layers: list[Layer]) -> Iterator[str]:
    """Where batch norms were not looked at for dead filters, and why."""
    if unseen := [one for one in layers if one.unseen]:
        what = f"Batch norms behind {plural(len(unseen), 'layer')} were not looked at for dead filters"
        yield f"{what}, the first being {unseen[0].name}: {unseen[0].unseen}."


def _not_measured(layers: list[Layer], maps: dict[str, Maps]) -> Iterator[str]:
    """Layers that images did not reach as modules, and those that see parts of them."""
    if missing := [one.name for one in layers if one.name not in maps]:
        yield f"Not called on the images, so measured by weights alone: {listed(missing)}."
    if folded := [name for name, one in maps.items() if one.folded]:
        yield f"Given parts of the images, so not compared with other layers: {listed(folded)}."


def _not_finite(layers: list[str]) -> str:
    more = f" and {plural(len(layers) - 1, 'more')}" if len(layers) > 1 else ""
    return f"layer {layers[0]}{more} has weights that are not finite"


def _means(network: nn.Module, layers: list[str], images: Images) -> dict[str, Tensor]:
    """The mean of each channel on each image, which is little to hold."""
    return measure.activations(network, layers, images.batches(MEANS), pool=1)
