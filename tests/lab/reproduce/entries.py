"""Entries of a ledger as they would be of real runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from filtersmith.lab.reproduce.arms import Arm
from filtersmith.lab.reproduce.ledger import Entry
from filtersmith.lab.reproduce.maths import maths_of


def entry(arm: Arm, seed: int = 0, accuracy: float | Sequence[float] = 0.5, **changed: Any) -> Entry:
    values = {
        "schema": 1,
        "key": arm.key,
        "spec": arm.spec(),
        "seed": seed,
        "data": "CIFAR-10",
        "data_digest": "d",
        "scale": 1.0,
        "precision": "fp32",
        "maths": changed["maths"] if "maths" in changed else maths_of(arm.spec()),
        "environment": {"device": "cpu", "cpu": "some processor"},
        "seconds": 1.0,
        "test_accuracy": [accuracy] if isinstance(accuracy, float) else list(accuracy),
    }
    return Entry.model_validate({**values, **changed})
