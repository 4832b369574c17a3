"""The page of an audit: one HTML file that needs nothing but itself."""

from __future__ import annotations

import torch

import filtersmith
from filtersmith.lab.audit import pictures
from filtersmith.lab.audit.audit import Audit
from filtersmith.lab.audit.responses import MOST
from filtersmith.lab.audit.table import build
from filtersmith.lab.audit.verdict import verdict
from filtersmith.lab.results.page import need_extra, render_page


def render(audit: Audit) -> str:
    """The page as text. ``ValueError`` where the extra `report` is not installed."""
    need_extra()
    by_weights = [
        pictures.profile(audit, "overlap"),
        pictures.profile(audit, "rank"),
        pictures.cosine_histogram(audit),
        pictures.first_kernels(audit),
    ]
    on_images = [
        None if audit.worth is None else pictures.oracle(audit.worth),
        *pictures.correlations(audit),
        pictures.likeness(audit),
    ]
    on_images += pictures.sights(audit)
    agreement = {} if audit.worth is None else audit.worth.agreement
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
        agreement=[(name, pictures.signed(one.value), pictures.signed(one.rank)) for name, one in agreement.items()],
        agreement_picture=pictures.agreement(agreement) if agreement else None,
        environment={"filtersmith": filtersmith.__version__, "torch": torch.__version__},
    )
