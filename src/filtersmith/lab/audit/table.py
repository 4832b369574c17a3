"""The table of an audit: a row for each layer, for the terminal and the page."""

from __future__ import annotations

import math
from dataclasses import dataclass

from filtersmith.lab.audit.audit import Audit
from filtersmith.lab.audit.oracle import CHEAP
from filtersmith.lab.audit.weights import ALIKE, Layer
from filtersmith.lab.results.cells import NOTHING

LEGEND = (
    "In brackets: the same network with random weights.",
    "Overlap: mean |cosine| of a filter to those of its layer (RePr's O_f); 0 is orthogonal.",
    "Rank: effective rank of the filter matrix, as a share of the most that it can be.",
    "Dead: filters that give the same whatever they read. Twins: filters nearly the same as another one, or its "
    f"opposite (|cosine| from {ALIKE:g} on).",
)
BEHIND = "behind the norm that reads them, if one does"
"""Where maps are taken."""
ON_IMAGES = f"|r|: mean correlation of the maps of two filters, {BEHIND}, over images and positions."
CHEAP_POINTS = f"{100 * CHEAP:g} points"
ORACLE = f"Cheap: filters that cost less than {CHEAP_POINTS} of accuracy, each left out alone."


@dataclass(frozen=True)
class AuditTable:
    """Heads, a row of cells for each layer, and what the columns mean."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    legend: tuple[str, ...]


def build(audit: Audit) -> AuditTable:
    """The table of an audit; columns that need images are there where it has some."""
    heads = ["Layer", "Filters", "Overlap", "Rank", "Dead", "Twins"]
    heads += ["|r|"] if audit.maps else []
    heads += ["Cheap"] if audit.worth is not None else []
    legend = [*LEGEND, *([ON_IMAGES] if audit.maps else []), *([ORACLE] if audit.worth is not None else [])]
    return AuditTable(tuple(heads), tuple(_row(audit, layer) for layer in audit.layers), tuple(legend))


def _row(audit: Audit, layer: Layer) -> tuple[str, ...]:
    own, null = layer.own, layer.random
    alone = layer.depthwise or layer.filters < 2
    cells = [
        layer.name or "(the network)",
        f"{layer.filters:,}" + (f", {len(layer.not_finite)} not finite" if layer.not_finite else ""),
        NOTHING if alone else _pair(own.overlap, null.overlap, "{:.3f}"),
        NOTHING if alone else _pair(*layer.rank_shares, "{:.0%}"),
        _counts(len(audit.dead(layer)), audit.random_dead(layer)),
        _counts(own.duplicates, null.duplicates),
    ]
    if audit.maps:
        found = audit.maps.get(layer.name)
        there = found is not None and len(found.filters) > 1
        cells.append(
            _pair(audit.maps[layer.name].mean, audit.random_maps[layer.name].mean, "{:.2f}") if there else NOTHING
        )
    if audit.worth is not None:
        cells.append(f"{audit.worth.cheap(layer.name):.0%}" if layer.name in audit.worth.drops else NOTHING)
    return tuple(cells)


def _counts(own: int, null: int) -> str:
    return f"{own:,} ({null:,})" if own or null else "0"


def _pair(own: float, null: float, form: str) -> str:
    said = form.format(own) if math.isfinite(own) else NOTHING
    return f"{said} ({form.format(null)})"
