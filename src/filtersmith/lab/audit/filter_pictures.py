"""Pictures of filters: those of the first layer, what they make of an image, and what excites them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from filtersmith import measure
from filtersmith.common.words import noun, plural
from filtersmith.lab.audit.audit import Audit
from filtersmith.lab.audit.pictures import empty
from filtersmith.lab.audit.seen import Exciting, Sight
from filtersmith.lab.audit.table import BEHIND
from filtersmith.lab.results.figures import as_source
from filtersmith.lab.results.picture import Picture, as_csv

KERNELS = 64
"""Filters of the first layer that are drawn."""


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
    figure, axes = empty(square=True)
    axes.imshow(together.movedim(0, -1).numpy(), vmin=0, vmax=1, interpolation="nearest")
    axes.axis("off")
    return Picture(caption, alt, csv, as_source(figure))


def sights(audit: Audit) -> list[Picture]:
    """What the first layers of both networks make of an image, and what excites filters of some layers."""
    both = [(audit.target.title, audit.sight)]
    if audit.against is not None:
        both.append((audit.against.title, audit.against.sight))
    found = [_sight(title, one) for title, one in both if one is not None]
    found += [_excited(one) for one in audit.exciting]
    return found


def _excited(one: Exciting) -> Picture:
    which = f"{noun(len(one.filters), 'filter')} {numbered(one.filters)} of {one.layer or 'the layer'}"
    caption = f"What excites {which}"
    alt = f"{caption}: images that activation maximisation found, one for each filter, row by row"
    means = [[round(float(value), 4) for value in image.mean((1, 2))] for image in one.images]
    rows = [(f, *values) for f, values in zip(one.filters, means, strict=True)]
    heads = ("filter", *(f"mean of channel {c}" for c in range(one.images.shape[1])))
    return grid(caption, alt, one.images, as_csv(heads, rows))


def numbered(filters: Sequence[int]) -> str:
    """Ascending numbers, three or more in a row as their first and last.

    >>> numbered([0, 1, 2, 5, 7, 8])
    '0 to 2, 5, 7, 8'
    """
    runs: list[list[int]] = []
    for one in filters:
        if runs and one == runs[-1][-1] + 1:
            runs[-1].append(one)
        else:
            runs.append([one])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)


def _sight(title: str, seen: Sight) -> Picture:
    caption = f"A test image, and what filters of {seen.layer} make of it: {title}"
    alt = (
        f"{caption}, {plural(len(seen.maps), 'map')} {BEHIND}, each from its lowest to its highest value; "
        f"{seen.constant:.0%} of the layer's maps hardly vary"
    )
    csv = as_csv(("filter", "mean of the map"), [(f, round(float(one.mean()), 4)) for f, one in enumerate(seen.maps)])
    return grid(caption, alt, [seen.image, *seen.maps.unsqueeze(1)], csv)
