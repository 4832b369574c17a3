"""The page of an audit: one HTML file that needs nothing but itself."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from filtersmith.common.words import plural
from filtersmith.lab.audit import filter_pictures, pictures
from filtersmith.lab.audit.audit import NULL_SEED, Audit
from filtersmith.lab.audit.oracle import Worth
from filtersmith.lab.audit.responses import MOST
from filtersmith.lab.audit.seen import FILTERS, LAYERS, SHARING
from filtersmith.lab.audit.table import BEHIND, build
from filtersmith.lab.audit.verdict import verdict
from filtersmith.lab.audit.weights import of_one_kernel
from filtersmith.lab.results.cells import NOTHING
from filtersmith.lab.results.page import need_extra, render_page
from filtersmith.lab.training.environment import environment

CRITERIA = {
    "ortho": "minus the mean |cosine| of a filter to those of its layer (RePr's O_f): filters that overlap little "
    "should be worth most.",
    "l1": "the sum of the sizes of a filter's weights: filters with large weights should be worth most.",
    "l2": "the root of the sum of the squares of a filter's weights: the same, and large single weights count more.",
}
"""What each criterion takes for the worth of a filter."""


def render(audit: Audit) -> str:
    """The page as text. ``ValueError`` where the extra `report` is not installed."""
    need_extra()
    worth = audit.worth
    by_weights = [
        pictures.profile(audit, "overlap"),
        pictures.profile(audit, "rank"),
        pictures.cosine_histogram(audit),
        filter_pictures.first_kernels(audit),
    ]
    on_images = [
        None if worth is None else pictures.oracle(worth, [layer.name for layer in audit.layers]),
        *pictures.correlations(audit),
        pictures.likeness(audit),
        *filter_pictures.sights(audit),
    ]
    agreement = {} if worth is None else worth.agreement
    other = None if audit.against is None else audit.against.of
    return render_page(
        "audit.html.j2",
        title=audit.target.title,
        weights=audit.target.weights,
        data=audit.data,
        images=audit.images,
        verdict=verdict(audit),
        table=build(audit),
        by_weights=[one for one in by_weights if one is not None],
        on_images=[one for one in on_images if one is not None],
        training=pictures.training(audit),
        most=MOST,
        other=None if other is None else {"audit": other, "verdict": verdict(other), "table": build(other)},
        behind=BEHIND,
        exciting=_why_these(audit) if audit.exciting else "",
        agreement=[(name, pictures.signed(one.value), pictures.signed(one.rank)) for name, one in agreement.items()],
        agreement_picture=None if worth is None else pictures.agreement(agreement, _chance(worth)),
        criteria=[] if worth is None else list(_criteria(worth)),
        environment=_measured_with(audit),
    )


def _why_these(audit: Audit) -> str:
    """Why what excites filters is shown of these layers and filters."""
    layers = [one.layer for one in audit.exciting]
    if any(len(same) > 1 for same in of_one_kernel(audit.target.network, layers)):
        where = f"layers of the kernel that most layers share ({SHARING} at most), to show what each makes of it"
    else:
        where = f"{LAYERS} layers at most, spread evenly from the first to the last"
    return f"What excites filters is shown of {where}, of each for the first {FILTERS} filters that are not dead."


def _criteria(worth: Worth) -> Iterator[str]:
    """What the criteria are, and how their agreement is read."""
    yield from (f"{name}: {CRITERIA[name]}" for name in worth.agreement)
    yield (
        "Correlation with the accuracy that each filter costs, of values (Pearson) and of ranks (Spearman): near +1 "
        "a criterion agrees with the Oracle, near 0 it says nothing (0 also stands where all filters cost the same), "
        "below 0 it takes the filters that are worth most for the cheap ones."
    )
    yield (
        f"Over {plural(_filters(worth), 'filter')} of {plural(len(worth.drops), 'layer')} together: up to about "
        f"±{_chance(worth):.2f} (2 / √filters) is chance."
    )


def _filters(worth: Worth) -> int:
    return sum(len(drops) for drops in worth.drops.values())


def _chance(worth: Worth) -> float:
    return min(1.0, 2 / math.sqrt(_filters(worth)))


def _measured_with(audit: Audit) -> dict[str, str]:
    """What the numbers depend on."""
    found: dict[str, Any] = {
        "target": audit.target.title,
        "weights": audit.target.weights,
        "random network": f"seed {NULL_SEED}",
        "images": f"{audit.images:,} test images of {audit.data}" if audit.images else "none",
        "Oracle": "not measured" if audit.worth is None else plural(audit.worth.images, "image"),
        **environment(),
    }
    return {name: NOTHING if value is None else str(value) for name, value in found.items()}
