"""An audit: everything that is measured of a network, beside the same network with random weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from math import prod

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from filtersmith import measure
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
from filtersmith.measure.kernels import listed

NULL_SEED = 1
"""Of the random network; a target without weights is drawn with 0."""
MOST_OF_IT = 0.8
"""Share of the weights that convolutions have, below which it is said how many."""


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
        of: everything else that was measured of it; ``None`` of the random network.
    """

    title: str
    maps: dict[str, Maps] = field(default_factory=dict)
    canonical: dict[str, Tensor] = field(default_factory=dict)
    similar: tuple[list[str], list[str]] = field(default_factory=lambda: ([], []))
    cka: list[list[float]] = field(default_factory=list)
    sight: Sight | None = None
    of: Audit | None = None


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
        not_finite: names of tensors that cannot be computed with.
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
    not_finite: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def dead(self, layer: Layer) -> tuple[int, ...]:
        """The dead filters of a layer: by the weights, and on the images where there are some."""
        on_images = self.maps[layer.name].constant if layer.name in self.maps else ()
        return tuple(sorted({*layer.dead, *on_images}))

    def random_dead(self, layer: Layer) -> int:
        """How many filters of the layer are dead in the random network."""
        on_images = self.random_maps[layer.name].constant if layer.name in self.random_maps else ()
        return len({*layer.random_dead, *on_images})


Progress = Callable[[str, int], Callable[[], None]]
"""Told of a piece of work and its steps; what it gives is called after each step."""


def audit(
    target: Target,
    images: Images | None,
    *,
    against: tuple[Target, Images | None] | None = None,
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
    found = _measured(target, random, images, "", progress)
    other = None if against is None else _of_other(*against, progress)
    if images is None or not found.maps:
        beside = None if other is None else Against(other.target.title, of=other)
        return replace(found, against=beside)
    its = None if against is None else against[1]
    if other is None or its is None or not other.maps:
        beside = _beside(found, images, "random weights", random, found.random_maps, images, progress)
    else:
        beside = _beside(found, images, other.target.title, other.target.network, other.maps, its, progress)
    layers = whole(found.maps)
    chosen, why_not = excited(target.network, layers, images)
    made = {name: found.maps[name] for name in chosen}
    return replace(
        found,
        canonical=canonical(target.network, found.maps, drawn(found.maps), images),
        against=replace(beside, of=other),
        worth=worth_of(target.network, images.batches(oracle)) if oracle else None,
        sight=sight(target.network, layers, images),
        exciting=exciting(target.network, made, images, progress("pictures of filters", len(made))),
        notes=(*found.notes, *_not_below(found, beside), *filter(None, [why_not])),
    )


def _of_other(target: Target, images: Images | None, progress: Progress) -> Audit:
    return _measured(target, target.drawn(NULL_SEED), images, f" of {target.title}", progress)


def _measured(target: Target, random: nn.Module, images: Images | None, whose: str, progress: Progress) -> Audit:
    """A network alone: its weights and, on images, its maps, each beside those of the random one."""
    network = target.network
    convolutions = sum(isinstance(module, _ConvNd) for module in network.modules())
    layers = by_weights(network, random, progress(f"weights{whose}", convolutions))
    broken = tuple(not_finite(network))
    notes = [*_unseen(layers), *_shared(layers), *_left_out(network, layers)]
    alone = Audit(target, layers, not_finite=broken, notes=tuple(notes))
    if images is None:
        return alone
    if broken:
        more = f" and {plural(len(broken) - 1, 'more tensor')}" if len(broken) > 1 else ""
        return replace(alone, notes=(*notes, f"{broken[0]}{more} not finite: nothing is measured on images."))
    steps = -(-images.count // images.batch)
    counts = {layer.name: layer.filters for layer in layers}
    maps = maps_of(network, counts, images.batches(), step=progress(f"maps{whose}", steps))
    notes += _not_measured(layers, maps)
    if not maps:
        return replace(alone, notes=tuple(notes))
    counts = {name: counts[name] for name in maps}  # those that are called
    null = maps_of(random, counts, images.batches(), step=progress(f"maps of the random network{whose}", steps))
    return replace(
        alone, images=images.count, data=images.data.title, maps=maps, random_maps=null, notes=tuple(notes)
    )


def _beside(
    found: Audit,
    images: Images,
    title: str,
    network: nn.Module,
    there: dict[str, Maps],
    its: Images,
    progress: Progress,
) -> Against:
    """Another network on the same images: what its maps have in common with those of the target."""
    ours, theirs = (spread_over(whole(of), SIMILAR) for of in (found.maps, there))
    means = _means(found.target.network, ours, images), _means(network, theirs, its)
    cka = similarity(*means, progress("similarity", len(ours)))
    same = [name for name in drawn(found.maps) if name in there and there[name].filters == found.maps[name].filters]
    seen = sight(network, whole(there), its)
    return Against(title, there, canonical(network, there, same, its), (ours, theirs), cka, seen)


def _not_below(found: Audit, beside: Against) -> Iterator[str]:
    """Layers of which the other network has nothing that fits below the diagonal."""
    lacking = [
        name
        for name in drawn(found.maps)
        if name not in beside.maps or beside.maps[name].filters != found.maps[name].filters
    ]
    if lacking:
        yield f"{beside.title} has no such {listed(lacking)}: random weights stand below the diagonal there."


def not_finite(network: nn.Module) -> list[str]:
    """The parameters, statistics of batch norms and other buffers that cannot be computed with.

    Infinite buffers are left alone: they may be masks.
    """
    parameters = [name for name, value in network.named_parameters() if not bool(value.isfinite().all())]
    buffers = [
        name
        for name, value in network.named_buffers()
        if bool(value.isnan().any()) or (".running_" in f".{name}" and not bool(value.isfinite().all()))
    ]
    return parameters + buffers


def _shared(layers: list[Layer]) -> Iterator[str]:
    """Layers whose kernel another one has, too."""
    for first in dict.fromkeys(layer.same_as for layer in layers if layer.same_as):
        same = [layer.name for layer in layers if layer.same_as == first]
        yield f"One kernel, which counts once: that of {first} and {listed(same)}."


def _left_out(network: nn.Module, layers: list[Layer]) -> Iterator[str]:
    """How much of the network the table has, where that is not nearly all."""
    every = sum(value.numel() for value in network.parameters())
    inside = sum(prod(layer.size) for layer in layers if not layer.same_as)
    if every and inside < MOST_OF_IT * every:
        yield (
            f"{plural(len(layers), 'convolution')} with {inside / every:.0%} of the weights: other layers, such as "
            "linear ones, are not looked at."
        )


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


def _means(network: nn.Module, layers: list[str], images: Images) -> dict[str, Tensor]:
    """The mean of each channel on each image, which is little to hold."""
    return measure.activations(network, layers, images.batches(MEANS), pool=1)
