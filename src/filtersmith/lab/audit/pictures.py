"""The pictures of an audit's page: profiles by layer, histograms, heat maps; filters are in `filter_pictures`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from filtersmith.common.words import plural
from filtersmith.lab.audit.audit import Audit
from filtersmith.lab.audit.oracle import CHEAP, Worth
from filtersmith.lab.audit.responses import DRAWN, HIGH, MEANS, Maps, spread_over
from filtersmith.lab.audit.table import CHEAP_POINTS
from filtersmith.lab.audit.weights import BINS
from filtersmith.lab.results.curves import curve_pictures, filter_pictures
from filtersmith.lab.results.document import Comparison
from filtersmith.lab.results.figures import BASELINE_COLOUR, COLOURS, as_source, method_styles, plain_text
from filtersmith.lab.results.numbers import MINUS
from filtersmith.lab.results.picture import Picture, as_csv
from filtersmith.measure.oracle_agreement import Agreement

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

OWN, RANDOM = COLOURS[0], BASELINE_COLOUR
NAMED = 25
"""Layers up to which an axis has their names; of more it has their numbers."""
SMALL, LONGEST, LABEL = 9, 50, 30
"""Points of the type in which networks are named; characters of a name in a line of its own, and in a label."""


def profile(audit: Audit, what: str) -> Picture:
    """A figure of each layer beside that of the random network: ``"overlap"`` or ``"rank"``."""
    caption, unit = {
        "overlap": ("Overlap of filters by layer", "mean |cosine|"),
        "rank": ("Effective rank by layer", "share of the full rank"),
    }[what]
    rows = []
    for layer in audit.layers:
        values = layer.rank_shares if what == "rank" else (layer.own.overlap, layer.random.overlap)
        rows.append((layer.name or "(the network)", *values))
    figure, axes = empty()
    places, numbers = _by_layer(axes, [row[0] for row in rows])
    axes.plot(
        places, [row[2] for row in rows], "o--", color=RANDOM, markersize=3, linewidth=1, label="random weights"
    )
    axes.plot(
        places, [row[1] for row in rows], "o-", color=OWN, markersize=4, label=_drawn(audit.target.title, LABEL)
    )
    axes.set(ylabel=unit)
    axes.set_ylim(0, 1.05 if what == "rank" else None)
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    means = [
        sum(values) / len(values) for values in zip(*((a, b) for _, a, b in rows if math.isfinite(a)), strict=True)
    ]
    said = f"mean over layers {means[0]:.3f}, with random weights {means[1]:.3f}" if means else "no layer is finite"
    csv = as_csv(("layer", audit.target.title, "random weights"), rows)
    return Picture(caption, f"{caption}, {unit}: {said}{numbers}", csv, as_source(figure))


def cosine_histogram(audit: Audit) -> Picture:
    """How many pairs of filters have which |cosine|, over all layers."""
    own, null = (_shares([getattr(one, kind).cosines for one in audit.layers]) for kind in ("own", "random"))
    edges = [k / BINS for k in range(BINS + 1)]
    figure, axes = empty()
    axes.stairs(null, edges, color=RANDOM, linestyle="--", label="random weights")
    axes.stairs(own, edges, color=OWN, fill=False, linewidth=2, label=_drawn(audit.target.title, LABEL))
    axes.set(xlabel="|cosine| of two filters of a layer", ylabel="share of all pairs", yscale="log", xlim=(0, 1))
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    first = round(BINS * HIGH[0])
    high = [sum(share[first:]) for share in (own, null)]
    caption = "How alike filters are: |cosine| of all pairs"
    alt = (
        f"{caption}, over all layers: {high[0]:.2%} of the pairs lie above {edges[first]:g}, with random weights "
        f"{high[1]:.2%}"
    )
    rows = [(edges[k], edges[k + 1], own[k], null[k]) for k in range(BINS)]
    return Picture(
        caption, alt, as_csv(("from", "to", audit.target.title, "random weights"), rows), as_source(figure)
    )


def correlations(audit: Audit) -> list[Picture]:
    """Heat maps of layers: this network above the diagonal, the other one below it; Pearson's and canonical ones."""
    names = [name for name, one in audit.maps.items() if len(one.filters) > 1]
    found = []
    for name in spread_over(names, DRAWN):
        other, below = _below(audit, name)
        titles, filters = (audit.target.title, other), audit.maps[name].filters
        values = audit.maps[name].correlation, below.correlation
        found.append(triangles("Correlation of maps", "Pearson's r", name, filters, titles, values))
        against = audit.against
        # Which layers have canonical ones was chosen in each network: the other one may lack this one.
        if against is None or below is not against.maps.get(name):
            continue
        if name in audit.canonical and name in against.canonical:
            values = audit.canonical[name], against.canonical[name]
            unit = "first canonical correlation"
            found.append(
                triangles("Canonical correlation of maps", unit, name, filters, titles, values, held_out=True)
            )
    return found


def _below(audit: Audit, layer: str) -> tuple[str, Maps]:
    """Whose maps stand below the diagonal: the other network's, where it has such a layer, or the random one's."""
    other = audit.against
    if other is not None and layer in other.maps and other.maps[layer].filters == audit.maps[layer].filters:
        return other.title, other.maps[layer]
    return "random weights", audit.random_maps[layer]


def triangles(
    caption: str,
    unit: str,
    layer: str,
    filters: Sequence[int],
    titles: tuple[str, str],
    values: tuple[Tensor, Tensor],
    *,
    held_out: bool = False,
) -> Picture:
    """A heat map of two networks: the first one above the diagonal, the second one below it, named beside it.

    From -1 to 1; what was read on held-out images, and is below 0 by chance alone, from 0 to 1.
    """
    (title, other), (ours, below) = titles, values
    figure, axes = empty(square=True)
    both = (ours.triu(1) + below.tril(-1)).double().fill_diagonal_(math.nan)  # which is left white
    drawn = _heat(axes, both.clamp(0, 1), 0, 1, "viridis") if held_out else _heat(axes, both, -1, 1, "RdBu_r")
    bar = figure.colorbar(drawn, ax=axes, shrink=0.8)
    bar.set_label(f"{unit}\non held-out images" if held_out else unit)
    axes.set_title(_place("above", title), fontsize=SMALL, loc="left")
    axes.set_xlabel(
        f"{_place('below', other)}\nfilters of {_drawn(layer or 'the layer')}", fontsize=SMALL, loc="left"
    )
    pairs = torch.triu_indices(len(filters), len(filters), 1)
    above, under = ours[pairs[0], pairs[1]], below[pairs[0], pairs[1]]
    alt = (
        f"{caption} of {len(filters)} filters of {layer}: above the diagonal {title}, mean size "
        f"{float(above.abs().mean()):.2f}, below it {other}, mean size {float(under.abs().mean()):.2f}"
    )
    if held_out:
        alt += f"; the {unit}, read on images on which it was not sought: below 0, drawn as 0, it is so by chance"
    rows = [
        (filters[i], filters[j], round(float(a), 4), round(float(b), 4))
        for i, j, a, b in zip(*pairs.tolist(), above, under, strict=True)
    ]
    return Picture(
        f"{caption}, {layer}", alt, as_csv(("filter a", "filter b", title, other), rows), as_source(figure)
    )


def _place(where: str, name: str) -> str:
    """Which triangle is of which network; a long name has a line of its own."""
    name = _drawn(name)
    return f"{where} the diagonal:{' ' if len(name) <= LONGEST // 2 else chr(10)}{name}"


def _drawn(name: str, most: int = LONGEST) -> str:
    return plain_text(shortened(name, most))


def likeness(audit: Audit) -> Picture | None:
    """CKA of every layer with every layer of the other network."""
    if audit.against is None or not audit.against.cka:
        return None
    other = audit.against
    values = torch.tensor(other.cka)
    figure, axes = empty(square=True)
    drawn = _heat(axes, values.clamp(0, 1), 0, 1, "viridis")
    figure.colorbar(drawn, ax=axes, location="top", label="CKA of each channel's mean")
    axes.set_xlabel(f"layers of {_drawn(other.title, LABEL)}", fontsize=SMALL)
    axes.set_ylabel(f"layers of {_drawn(audit.target.title, LABEL)}", fontsize=SMALL)
    _named(axes, "x", range(values.shape[1]), other.similar[1])
    _named(axes, "y", range(values.shape[0]), other.similar[0])
    if other.similar[0] == other.similar[1]:
        said = f"{float(values.diagonal().mean()):.2f} on average for layers at the same place"
    else:
        said = (
            f"a layer of {audit.target.title} and the one of {other.title} that is most like it, chosen by these "
            f"values, have {float(values.max(1).values.mean()):.2f} on average"
        )
    caption = f"How alike layers are to those of {other.title}"
    alt = f"{caption}, by unbiased linear CKA of each channel's mean on {min(audit.images, MEANS):,} images: {said}"
    rows = [
        (a, b, round(other.cka[i][j], 4))
        for i, a in enumerate(other.similar[0])
        for j, b in enumerate(other.similar[1])
    ]
    return Picture(caption, alt, as_csv((audit.target.title, other.title, "CKA"), rows), as_source(figure))


def oracle(worth: Worth, rows_of_table: Sequence[str] = ()) -> Picture:
    """What each filter is worth, by layer; without a table layers are numbered as they come."""
    figure, axes = empty()
    first, names = next(iter(worth.drops)), list(worth.drops)
    places, numbers = _by_layer(axes, names, rows_of_table)
    for place, (name, drops) in zip(places, worth.drops.items(), strict=True):
        spread = torch.linspace(-0.3, 0.3, len(drops)) if len(drops) > 1 else torch.zeros(1)
        dots, median = ("a filter", "median of the layer") if name == first else ("", "")  # in the legend once
        axes.plot(place + spread, 100 * drops, ".", color=OWN, markersize=3, alpha=0.6, label=dots)
        ends = [place - 0.35, place + 0.35]
        axes.plot(ends, [100 * float(drops.median())] * 2, color=COLOURS[1], linewidth=2, label=median)
    axes.axhline(100 * CHEAP, color=RANDOM, linestyle=":", linewidth=1, label=f"{CHEAP_POINTS}: below is cheap")
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=9, markerscale=3)
    axes.set(ylabel="accuracy lost, points")
    caption = "What each filter is worth"
    highest = max(worth.layers, key=lambda name: worth.layers[name].highest)
    alt = (
        f"{caption}: accuracy lost without it, on {plural(worth.images, 'image')}; the most, "
        f"{100 * worth.layers[highest].highest:.1f} points, in {highest}; bars are the medians "
        f"of layers, and below the dotted line, at {CHEAP_POINTS}, a filter is cheap{numbers}"
    )
    rows = [(name, f, 100 * float(drop)) for name, drops in worth.drops.items() for f, drop in enumerate(drops)]
    return Picture(caption, alt, as_csv(("layer", "filter", "points"), rows), as_source(figure))


def agreement(found: Mapping[str, Agreement], chance: float | None = None) -> Picture:
    """How well criteria of the weights agree with the Oracle, by value and by rank; how far chance alone goes."""
    figure, axes = empty()
    if chance is not None:
        axes.axhspan(-chance, chance, color="#dddddd", linewidth=0, label="chance alone")
    places = torch.arange(len(found), dtype=torch.float64)
    for kind, offset, colour in (("value", -0.2, COLOURS[0]), ("rank", 0.2, COLOURS[1])):
        heights = [getattr(one, kind) for one in found.values()]
        axes.bar(places + offset, heights, 0.36, color=colour, label=f"of {kind}s")
    axes.axhline(0, color=RANDOM, linewidth=1)
    axes.set(ylabel="correlation with the Oracle", ylim=(-1, 1))
    axes.set_xticks(places.tolist(), list(found))
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    caption = "Criteria of the weights against the Oracle"
    words = ", ".join(f"{name} {signed(one.value)} and {signed(one.rank)}" for name, one in found.items())
    rows = [(name, round(one.value, 4), round(one.rank, 4)) for name, one in found.items()]
    heads = ("criterion", "correlation of values", "correlation of ranks")
    return Picture(caption, f"{caption}, by value and by rank: {words}", as_csv(heads, rows), as_source(figure))


def signed(value: float) -> str:
    """With its sign, as it is printed."""
    return f"{value:+.2f}".replace("-", MINUS)


def training(audit: Audit) -> list[Picture]:
    """Curves over the training, where the network is that of a run."""
    result = None if audit.target.run is None else audit.target.run.result()
    if result is None or not result.epochs:
        return []
    title = audit.target.title
    comparison = Comparison(
        title=title,
        data="",
        data_title="",
        model="",
        epochs=len(result.epochs),
        seeds=(result.seed,),
        methods=(result.method,),
        runs=(result,),
    )
    styles = method_styles([comparison])
    return [*curve_pictures(comparison, styles), *filter_pictures(comparison, styles)]


def _shares(every: Sequence[Sequence[int]]) -> list[float]:
    counts = [sum(one) for one in zip(*every, strict=True)]
    total = sum(counts)
    return [count / total if total else 0.0 for count in counts]


def _by_layer(axes: Axes, names: Sequence[str], rows: Sequence[str] = ()) -> tuple[Sequence[int], str]:
    """An axis of layers: the place of each, and what the alternative text says of numbers, if there are some.

    Few layers have their names, many the numbers of their rows in the table (by default these are the rows).
    """
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("layer, from the input to the output")
    if len(names) <= NAMED:
        places = range(1, len(names) + 1)
        _named(axes, "x", places, names)
        return places, ""
    axes.set_xlabel("layer, by its row in the table")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))  # layers have no halves
    said = "; layers have the numbers of their rows in the table, from the input to the output"
    return [list(rows or names).index(name) + 1 for name in names], said


def _named(axes: Axes, which: Literal["x", "y"], places: Sequence[int], names: Sequence[str]) -> None:
    """The names of layers on an axis; the figure is so much higher as those below it need."""
    shown = short_names(names)
    size = SMALL if len(names) <= NAMED // 2 else SMALL - 1
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_ticks(list(places), [plain_text(name) for name in shown], fontsize=size)
    axis.set_tick_params(length=2, rotation=90 if which == "x" else 0)
    if which == "x" and (figure := axes.get_figure(root=True)) is not None:
        figure.set_figheight(figure.get_figheight() + max(map(len, shown)) * 0.6 * size / 72)


def short_names(names: Sequence[str], most: int = 18) -> list[str]:
    """Names of layers, shortened in the middle where they can be told apart all the same.

    >>> short_names(["features.denseblock1.denselayer1.conv1", "classifier"])
    ['featur…ayer1.conv1', 'classifier']
    """
    names = [name or "(the network)" for name in names]
    while len({shortened(name, most, 1 / 3) for name in names}) < len(set(names)):
        most += 1
    return [shortened(name, most, 1 / 3) for name in names]


def shortened(text: str, most: int, before: float = 1 / 2) -> str:
    """At most so many characters, without those in the middle: so much of what is left stands before the gap.

    >>> shortened("kflo(width=4)+wau(0.5)@resnet20", 15)
    'kflo(wi…esnet20'
    """
    if len(text) <= most:
        return text
    head = round(before * (most - 1))
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"


def _heat(axes: Axes, values: Tensor, low: float, high: float, colours: str) -> AxesImage:
    drawn = axes.imshow(values.numpy(), vmin=low, vmax=high, cmap=colours, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    return drawn


def empty(*, square: bool = False) -> tuple[Figure, Axes]:
    """A small figure: type of 10 points can be read in a card a third of a page wide, and on a phone."""
    from matplotlib.figure import Figure as New

    figure = New(figsize=(4.2, 4.0) if square else (4.2, 3.0), layout="constrained")
    return figure, figure.subplots()
