"""What an audit says in words, and on what grounds; the random network is what all is compared with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from filtersmith.common.words import noun, plural
from filtersmith.lab.audit.audit import Audit
from filtersmith.lab.audit.oracle import CHEAP as THRESHOLD
from filtersmith.lab.audit.responses import HIGH
from filtersmith.lab.audit.table import CHEAP_POINTS
from filtersmith.lab.audit.weights import Layer

DEAD = TWINS = 0.01
"""Share of filters from which it is said that they are wasted."""
OVERLAP, RANK, CORRELATION = 1.5, 0.8, 1.5
"""So many times what the random network has; of the rank: so little of it."""
BETTER = 1.5
"""So many times the accuracy of a guess, below which the Oracle says nothing."""
CHEAP = 0.5
"""Share of filters that can be dropped, each alone, from which they are said to be many."""


@dataclass(frozen=True)
class Verdict:
    """What is said of a network.

    Attributes:
        headline: one sentence.
        grounds: the numbers behind it, each a sentence; those for waste first.
        limits: what the audit cannot show.
    """

    headline: str
    grounds: tuple[str, ...]
    limits: tuple[str, ...]


@dataclass(frozen=True)
class _Ground:
    words: str
    said: str
    """Behind "Signs of waste: "; empty where it is none."""


def verdict(audit: Audit) -> Verdict:
    """The verdict on an audit."""
    grounds = sorted(_grounds(audit), key=lambda one: not one.said)
    wasted = [one.said for one in grounds if one.said]
    broken = [layer for layer in audit.layers if layer.not_finite]
    if broken:
        headline = f"Broken: {_named(broken, 'not_finite')} weights that are not finite."
    elif audit.not_finite:
        headline = f"Broken: {audit.not_finite[0]} has values that are not finite."
    elif audit.target.random:
        headline = "Random weights: what is shown is what a network has before it is trained."
    elif wasted:
        headline = f"Signs of waste: {', '.join(wasted)}."
    else:
        headline = "No sign of waste: no figure lies beyond its threshold."
    return Verdict(headline, tuple(one.words for one in grounds), tuple(_limits(audit)))


def _grounds(audit: Audit) -> Iterator[_Ground]:
    once = [layer for layer in audit.layers if not layer.same_as]
    every = sum(layer.filters for layer in once)
    dead, at_first = (sum(map(count, once)) for count in (lambda one: len(audit.dead(one)), audit.random_dead))
    where = " by the weights, or on the images" if audit.maps else " by the weights"
    more = dead - at_first
    yield _Ground(
        f"{dead:,} of {every:,} filters {noun(dead, 'is', 'are')} dead{where} ({dead / every:.1%}); of the random "
        f"network {at_first:,}.",
        f"{more / every:.0%} more than with random weights are dead" if more > 1 and more >= DEAD * every else "",
    )
    twins, chance = (sum(getattr(one, kind).duplicates for one in once) for kind in ("own", "random"))
    yield _Ground(
        f"{plural(twins, 'filter')} of {every:,} {noun(twins, 'is', 'are')} nearly the same as another one of the "
        f"layer, or its opposite; of the random network {chance:,}.",
        f"{(twins - chance) / every:.0%} more than by chance are twins" if twins - chance >= TWINS * every else "",
    )
    layers = [one for one in once if not one.depthwise and math.isfinite(one.own.overlap) and one.filters > 1]
    if layers:
        overlap = _ratio(layers, "overlap")
        yield _Ground(
            f"They overlap {overlap:.2f} times as much as random filters (the mean |cosine|, over all layers).",
            f"they overlap {overlap:.1f} times as much as random ones" if overlap >= OVERLAP else "",
        )
        rank = _ratio(layers, "rank")
        yield _Ground(
            f"They use {rank:.0%} of the directions that random filters do (effective rank, over all layers).",
            f"they use {rank:.0%} of the directions that random ones do" if rank <= RANK else "",
        )
    yield from _on_images(audit)


def _on_images(audit: Audit) -> Iterator[_Ground]:
    both = [(audit.maps[name], audit.random_maps[name]) for name in audit.maps if len(audit.maps[name].filters) > 1]
    if both:
        own, null = (sum(pair[k].mean for pair in both) / len(both) for k in (0, 1))
        above = sum(pair[0].above[0] for pair in both) / len(both)
        yield _Ground(
            f"On {audit.images:,} images their maps correlate with |r| = {own:.2f} on average, those of the random "
            f"network with {null:.2f}; {above:.0%} of the pairs lie above {HIGH[0]:g}.",
            f"their maps correlate {own / null:.1f} times as much" if null > 0 and own >= CORRELATION * null else "",
        )
    if audit.worth is not None:
        worth = audit.worth
        cheap = sum(worth.cheap(name) * len(drops) for name, drops in worth.drops.items())
        every = sum(len(drops) for drops in worth.drops.values())
        share = cheap / every
        # One image more or less must be less than what is cheap, and the network better than a guess.
        shows = worth.images * THRESHOLD >= 1 and worth.accuracy > BETTER * worth.guess
        yield _Ground(
            f"{share:.0%} of the filters cost less than {CHEAP_POINTS} when they are left out, each alone (Oracle "
            f"on {plural(worth.images, 'image')}, one of which is {100 / worth.images:.2f} points; accuracy "
            f"{worth.accuracy:.1%}).",
            f"{share:.0%} cost less than {CHEAP_POINTS}, each left out alone" if shows and share >= CHEAP else "",
        )


def _limits(audit: Audit) -> Iterator[str]:
    yield from audit.notes
    if not audit.images and not audit.notes:
        yield "Weights alone do not show what filters do on images: --data shows it."
    if audit.worth is None:
        yield (
            "Overlap, rank and correlation do not show what a filter is worth: networks of little overlap need not "
            "be better. --oracle leaves filters out one by one."
        )
    else:
        yield "Filters that cost little each may cost much together: the Oracle leaves out one at a time."
    yield (
        f"The random network is one draw of the same network; thresholds of the words: {DEAD:.0%} dead, {TWINS:.0%} "
        f"twins, overlap {OVERLAP:g} times, correlation {CORRELATION:g} times, rank {RANK:g} times the random one's."
    )


def _ratio(layers: Iterable[Layer], what: str) -> float:
    """Own over random, each summed over layers by their filters."""
    own = null = 0.0
    for layer in layers:
        own += layer.filters * getattr(layer.own, what)
        null += layer.filters * getattr(layer.random, what)
    return own / null if null else 1.0


def _named(layers: list[Layer], what: str) -> str:
    first = layers[0]
    numbers = getattr(first, what)
    filters = f"{noun(len(numbers), 'filter')} {', '.join(map(str, numbers[:5]))}" + ", ..." * (len(numbers) > 5)
    more = (
        f", and {plural(len(layers) - 1, 'more layer')}, have"
        if len(layers) > 1
        else noun(len(numbers), " has", " have")
    )
    return f"{filters} of layer {first.name}{more}"
