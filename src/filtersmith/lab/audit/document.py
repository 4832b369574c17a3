"""An audit as JSON, for machines: everything that was measured, with what measured it."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

import torch

import filtersmith
from filtersmith.lab.audit.audit import Against, Audit
from filtersmith.lab.audit.responses import Maps
from filtersmith.lab.audit.table import build
from filtersmith.lab.audit.verdict import verdict

SCHEMA = 1


def to_json(audit: Audit) -> str:
    """A JSON object; numbers that are not finite are null."""
    return json.dumps(_plain(document(audit)), ensure_ascii=False) + "\n"


def document(audit: Audit) -> dict[str, Any]:
    """The same as plain values."""
    said = verdict(audit)
    found: dict[str, Any] = {
        "schema": SCHEMA,
        "target": audit.target.title,
        "weights": audit.target.weights,
        "random": audit.target.random,
        "verdict": asdict(said),
        "table": asdict(build(audit)),
        "data": audit.data or None,
        "images": audit.images,
        "versions": {"filtersmith": filtersmith.__version__, "torch": torch.__version__},
        "layers": [{**asdict(layer), "dead": list(audit.dead(layer))} for layer in audit.layers],
        "not_finite": list(audit.not_finite),
        "maps": {name: _maps(one) for name, one in audit.maps.items()},
        "random_maps": {name: _maps(one) for name, one in audit.random_maps.items()},
        "against": None if audit.against is None else _against(audit.against),
        "oracle": None,
    }
    if audit.worth is not None:
        worth = audit.worth
        found["oracle"] = {
            "images": worth.images,
            "accuracy": worth.accuracy,
            "guess": worth.guess,
            "drops": {name: drops.tolist() for name, drops in worth.drops.items()},
            "layers": {name: one._asdict() for name, one in worth.layers.items()},
            "agreement": {name: one._asdict() for name, one in worth.agreement.items()},
        }
    return found


def _maps(one: Maps) -> dict[str, Any]:
    return {
        "filters": list(one.filters),
        "correlation": [[round(value, 4) for value in row] for row in one.correlation.tolist()],
        "mean": one.mean,
        "above": list(one.above),
        "rank": one.rank,
        "constant": list(one.constant),
    }


def _against(one: Against) -> dict[str, Any]:
    measured = None if one.of is None else document(one.of)
    return {"title": one.title, "layers": list(one.similar), "cka": one.cka, "audit": measured}


def _plain(value: Any) -> Any:
    """The same with null for what JSON has no number for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value
