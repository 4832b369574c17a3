"""The pictures of an audit's page: profiles by layer, histograms, heat maps, filters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from filtersmith import measure
from filtersmith.common.words import plural
from filtersmith.lab.audit.audit import Audit
from filtersmith.lab.audit.oracle import CHEAP, Worth
from filtersmith.lab.audit.responses import DRAWN, HIGH, MEANS, Maps, spread_over
from filtersmith.lab.audit.seen import Sight
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
KERNELS = 64
"""Filters of the first layer that are drawn."""


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
    figure, axes = _figure()
    places = range(1, len(rows) + 1)
    axes.plot(
        places, [row[2] for row in rows], "o--", color=RANDOM, markersize=3, linewidth=1, label="random weights"
    )
    axes.plot(places, [row[1] for row in rows], "o-", color=OWN, markersize=4, label=plain_text(audit.target.title))
    axes.set(xlabel="layer, from the input to the output", ylabel=unit)
    axes.set_ylim(0, 1.05 if what == "rank" else None)
    _whole_numbers(axes)
    axes.legend(frameon=False, fontsize=9)
    means = [
        sum(values) / len(values) for values in zip(*((a, b) for _, a, b in rows if math.isfinite(a)), strict=True)
    ]
    said = f"mean over layers {means[0]:.3f}, with random weights {means[1]:.3f}" if means else "no layer is finite"
    csv = as_csv(("layer", audit.target.title, "random weights"), rows)
    return Picture(caption, f"{caption}, {unit}: {said}", csv, as_source(figure))


def cosine_histogram(audit: Audit) -> Picture:
    """How many pairs of filters have which |cosine|, over all layers."""
    own, null = (_shares([getattr(one, kind).cosines for one in audit.layers]) for kind in ("own", "random"))
    edges = [k / BINS for k in range(BINS + 1)]
    figure, axes = _figure()
    axes.stairs(null, edges, color=RANDOM, linestyle="--", label="random weights")
    axes.stairs(own, edges, color=OWN, fill=False, linewidth=2, label=plain_text(audit.target.title))
    axes.set(xlabel="|cosine| of two filters of a layer", ylabel="share of all pairs", yscale="log", xlim=(0, 1))
    axes.legend(frameon=False, fontsize=9)
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
            found.append(triangles("Canonical correlation of maps", "first one", name, filters, titles, values))
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
) -> Picture:
    """A heat map of two networks: the first one above the diagonal, the second one below it, named in the picture."""
    (title, other), (ours, below) = titles, values
    figure, axes = _figure(square=True)
    drawn = _heat(axes, ours.triu(1) + below.tril(-1), -1, 1, "RdBu_r")
    for text, place, across, up in ((title, 0.98, "right", "top"), (other, 0.02, "left", "bottom")):
        axes.text(
            place, place, plain_text(text), transform=axes.transAxes, ha=across, va=up, fontsize=9, color="#1b1f24",
            bbox={"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 2},
        )  # fmt: skip
    figure.colorbar(drawn, ax=axes, label=unit)
    axes.set(xlabel=f"filters of {plain_text(layer) or 'the layer'}")
    pairs = torch.triu_indices(len(filters), len(filters), 1)
    above, under = ours[pairs[0], pairs[1]], below[pairs[0], pairs[1]]
    alt = (
        f"{caption} of {len(filters)} filters of {layer}: above the diagonal {title}, mean size "
        f"{float(above.abs().mean()):.2f}, below it {other}, mean size {float(under.abs().mean()):.2f}"
    )
    rows = [
        (filters[i], filters[j], round(float(a), 4), round(float(b), 4))
        for i, j, a, b in zip(*pairs.tolist(), above, under, strict=True)
    ]
    return Picture(
        f"{caption}, {layer}", alt, as_csv(("filter a", "filter b", title, other), rows), as_source(figure)
    )


def likeness(audit: Audit) -> Picture | None:
    """CKA of every layer with every layer of the other network."""
    if audit.against is None or not audit.against.cka:
        return None
    other = audit.against
    values = torch.tensor(other.cka)
    figure, axes = _figure(square=True)
    drawn = _heat(axes, values.clamp(0, 1), 0, 1, "viridis")
    figure.colorbar(drawn, ax=axes, label="CKA of each channel's mean")
    axes.set(xlabel=f"layers of {plain_text(other.title)}", ylabel=f"layers of {plain_text(audit.target.title)}")
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


def oracle(worth: Worth) -> Picture:
    """What each filter is worth, by layer."""
    figure, axes = _figure()
    for place, (_, drops) in enumerate(worth.drops.items(), 1):
        spread = torch.linspace(-0.3, 0.3, len(drops)) if len(drops) > 1 else torch.zeros(1)
        dots, median = ("a filter", "median of the layer") if place == 1 else ("", "")  # in the legend once
        axes.plot(place + spread, 100 * drops, ".", color=OWN, markersize=3, alpha=0.6, label=dots)
        ends = [place - 0.35, place + 0.35]
        axes.plot(ends, [100 * float(drops.median())] * 2, color=COLOURS[1], linewidth=2, label=median)
    axes.axhline(100 * CHEAP, color=RANDOM, linestyle=":", linewidth=1, label=f"{CHEAP_POINTS}: below is cheap")
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=9, markerscale=3)
    axes.set(xlabel="layer, from the input to the output", ylabel="accuracy lost, points")
    _whole_numbers(axes)
    caption = "What each filter is worth"
    highest = max(worth.layers, key=lambda name: worth.layers[name].highest)
    alt = (
        f"{caption}: accuracy lost without it, on {plural(worth.images, 'image')}; the most, "
        f"{100 * worth.layers[highest].highest:.1f} points, in {highest}; bars are the medians "
        f"of layers, and below the dotted line, at {CHEAP_POINTS}, a filter is cheap"
    )
    rows = [(name, f, 100 * float(drop)) for name, drops in worth.drops.items() for f, drop in enumerate(drops)]
    return Picture(caption, alt, as_csv(("layer", "filter", "points"), rows), as_source(figure))


def agreement(found: Mapping[str, Agreement]) -> Picture:
    """How well criteria of the weights agree with the Oracle, by value and by rank."""
    figure, axes = _figure()
    places = torch.arange(len(found), dtype=torch.float64)
    for kind, offset, colour in (("value", -0.2, COLOURS[0]), ("rank", 0.2, COLOURS[1])):
        heights = [getattr(one, kind) for one in found.values()]
        axes.bar(places + offset, heights, 0.36, color=colour, label=f"of {kind}s")
    axes.axhline(0, color=RANDOM, linewidth=1)
    axes.set(ylabel="correlation with the Oracle", ylim=(-1, 1))
    axes.set_xticks(places.tolist(), list(found))
    axes.legend(frameon=False, fontsize=9)
    caption = "Criteria of the weights against the Oracle"
    words = ", ".join(f"{name} {signed(one.value)} and {signed(one.rank)}" for name, one in found.items())
    rows = [(name, round(one.value, 4), round(one.rank, 4)) for name, one in found.items()]
    heads = ("criterion", "correlation of values", "correlation of ranks")
    return Picture(caption, f"{caption}, by value and by rank: {words}", as_csv(heads, rows), as_source(figure))


def signed(value: float) -> str:
    """With its sign, as it is printed."""
    return f"{value:+.2f}".replace("-", MINUS)


def grid(caption: str, alt: str, pictures: Sequence[Tensor] | Tensor, csv: str) -> Picture:
    """Small pictures ``(1 or 3, height, width)`` in [0, 1], side by side; of other channels their mean."""
    from torchvision.utils import make_grid

    height, width = (max(sides) for sides in zip(*(one.shape[-2:] for one in pictures), strict=True))
    of_one_size = [
        interpolate(
            (one if len(one) in (1, 3) else one.mean(0, keepdim=True)).expand(3, -1, -1).unsqueeze(0),
            (height, width),
            mode="nearest-exact",
        )
        for one in pictures
    ]
    columns = math.ceil(math.sqrt(len(pictures)))
    # One picture of all: an axis for each takes Matplotlib longer than ResNet-50 takes to be measured.
    together = make_grid(torch.cat(of_one_size), columns, padding=-(-max(height, width) // 12), pad_value=1)
    figure, axes = _figure(square=True)
    axes.imshow(together.movedim(0, -1).numpy(), vmin=0, vmax=1, interpolation="nearest")
    axes.axis("off")
    return Picture(caption, alt, csv, as_source(figure))


def sights(audit: Audit) -> list[Picture]:
    """What the first layers of both networks make of an image, and what excites filters of some layers."""
    both = [(audit.target.title, audit.sight)]
    if audit.against is not None:
        both.append((audit.against.title, audit.against.sight))
    found = [_sight(title, one) for title, one in both if one is not None]
    for one in audit.exciting:
        caption = f"What excites filters of {one.layer}"
        alt = f"{caption}: for each of {plural(len(one.filters), 'filter')} what activation maximisation found"
        means = [[round(float(value), 4) for value in image.mean((1, 2))] for image in one.images]
        rows = [(f, *values) for f, values in zip(one.filters, means, strict=True)]
        heads = ("filter", *(f"mean of channel {c}" for c in range(one.images.shape[1])))
        found.append(grid(caption, alt, one.images, as_csv(heads, rows)))
    return found


def _sight(title: str, seen: Sight) -> Picture:
    caption = f"A test image, and what filters of {seen.layer} make of it: {title}"
    alt = (
        f"{caption}, {plural(len(seen.maps), 'map')} behind batch norm, each from its lowest to its highest value; "
        f"{seen.constant:.0%} of the layer's maps hardly vary"
    )
    csv = as_csv(("filter", "mean of the map"), [(f, round(float(one.mean()), 4)) for f, one in enumerate(seen.maps)])
    return grid(caption, alt, [seen.image, *seen.maps.unsqueeze(1)], csv)


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


def first_kernels(audit: Audit) -> Picture | None:
    """The first layer's filters, where they can be seen: those of one or three channels, more than a pixel."""
    first = audit.layers[0]
    if len(first.size) != 4 or first.size[1] not in (1, 3) or first.size[2] < 2 or first.not_finite:
        return None
    kernels = measure.first_layer_kernels(audit.target.network, first.name)[:KERNELS]
    rows = [(f, *(round(value, 4) for value in one.flatten().tolist())) for f, one in enumerate(kernels)]
    places = product(*(range(side) for side in first.size[1:]))
    heads = ("filter", *(",".join(map(str, place)) for place in places))
    caption = f"Filters of the first layer, {first.name}" if first.name else "Filters of the layer"
    alt = f"{plural(len(kernels), 'filter')} of {first.name}, each scaled by its largest weight; grey is 0"
    return grid(caption, alt, kernels, as_csv(heads, rows))


def _shares(every: Sequence[Sequence[int]]) -> list[float]:
    counts = [sum(one) for one in zip(*every, strict=True)]
    total = sum(counts)
    return [count / total if total else 0.0 for count in counts]


def _whole_numbers(axes: Axes) -> None:
    """Layers have no halves."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _heat(axes: Axes, values: Tensor, low: float, high: float, colours: str) -> AxesImage:
    drawn = axes.imshow(values.numpy(), vmin=low, vmax=high, cmap=colours, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    return drawn


def _figure(*, square: bool = False) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure as New

    figure = New(figsize=(5.2, 4.6) if square else (5.6, 3.6), layout="constrained")
    return figure, figure.subplots()
