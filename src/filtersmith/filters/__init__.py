"""What a filter is, in every kind of layer: the one place that knows.

A *filter* is everything that produces one output channel of a convolution (dense, grouped, depthwise or
transposed, in 1, 2 or 3 dimensions), or one output of a linear layer. With ``c`` inputs, ``n`` outputs, ``g``
groups and kernel size ``k``:

==================  ==========================  =================================
layer               weight                      filter ``f``
==================  ==========================  =================================
convolution         ``(n, c/g, *k)``            ``weight[f]``
transposed, g = 1   ``(c, n, *k)``              ``weight[:, f]``
transposed, g > 1   ``(c, n/g, *k)``            ``weight[c/g*i : c/g*(i+1), j]``,
                                                ``i, j = divmod(f, n/g)``
linear              ``(n, c)``                  ``weight[f]``
==================  ==========================  =================================

*Filter-major* is the one layout for all of them: ``(n, c/g, *k)``, filter ``f`` is row ``f``. `filter_major` and
`weight_layout` change between the two. A weight that KFLO computes (see `filtersmith.reparam`) has its *underlying
filters* as the rows of a filter-major parameter; their number is KFLO's width times that of the outputs.

Not every layer can take part in every method: `reason_against` says why. What `filtersmith.reparam` puts into a
network is known by its attributes: ``sums_branches`` of a block of branches, ``is_expansion`` and
``has_underlying_filters`` of a parametrization.
"""

from __future__ import annotations

from filtersmith.filters.layer import (
    UNITS,
    FilterLayer,
    Unit,
    channel_axis,
    filter_major,
    has_filters,
    is_expansion,
    outputs_of,
    sums_branches,
    transposed_groups,
    underlying_filters,
    weight_layout,
    weight_of,
)
from filtersmith.filters.reasons import (
    EXPANDED,
    LAZY,
    OF_ALL,
    Need,
    Surroundings,
    able,
    cannot,
    filter_layers,
    layers_left_out,
    reason_against,
)
from filtersmith.filters.slices import Slice, along, locate

__all__ = [
    "EXPANDED",
    "LAZY",
    "OF_ALL",
    "UNITS",
    "FilterLayer",
    "Need",
    "Slice",
    "Surroundings",
    "Unit",
    "able",
    "along",
    "cannot",
    "channel_axis",
    "filter_layers",
    "filter_major",
    "has_filters",
    "is_expansion",
    "layers_left_out",
    "locate",
    "outputs_of",
    "reason_against",
    "sums_branches",
    "transposed_groups",
    "underlying_filters",
    "weight_layout",
    "weight_of",
]
