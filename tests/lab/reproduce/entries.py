"""Entries of a ledger as they would be of real runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from filtersmith.lab.papers.published import table
from filtersmith.lab.reproduce.arms import Arm, arm_of
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


ACCURACIES = {
    1: (0.70, 0.71, 0.72),
    2: (0.705, 0.725, 0.715),  # cannot tell
    3: (0.745, 0.755, 0.76),  # agrees
    4: (0.72, 0.731, 0.741),  # direction holds
    5: (0.47, 0.48, 0.49),
    7: (0.46, 0.465, 0.48),  # differs
}
"""Row of repr/table1 -> the accuracy of each seed; 1 to 4 are of CIFAR-10, the others of CIFAR-100."""
TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}


def every_verdict() -> list[Entry]:
    """Runs of repr/table1 in three settings; every verdict stands on one of them. Those on digits have two seeds."""
    of = table("repr/table1")
    arms = {number: arm_of(of.row(number), of) for number in ACCURACIES}
    return [
        *(
            entry(arms[number], seed, accuracy, data=TITLES[of.row(number).data])
            for number, values in ACCURACIES.items()
            for seed, accuracy in enumerate(values)
        ),
        *(entry(arms[number], seed, 0.9, data="digits") for number in (1, 3) for seed in range(2)),
    ]
