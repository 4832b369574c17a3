"""What a method computes bears a number: runs of different numbers do not stand in one table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from reference.small_training import IMAGES, OPTIONS, trained

from filtersmith import METHODS

KNOWN = Path(__file__).parents[1] / "reference" / "maths.json"


def measured(name: str) -> list[float]:
    """The outputs for the first image of a network that was trained with a method."""
    deployed = trained(name + OPTIONS.get(name, "")).eval()
    with torch.no_grad():
        outputs: list[float] = deployed(IMAGES)[0].tolist()
    return [round(value, 5) for value in outputs]


@pytest.mark.parametrize("name", METHODS)
def test_a_method_that_computes_something_else_has_another_number(name: str) -> None:
    known = json.loads(KNOWN.read_text())
    maths = METHODS[name].maths
    key = f"{name} {maths}"
    assert key in known, f"run python tests/methods/test_maths.py to keep what {name} computes now"
    said = f"{name} computes something else than before: raise its maths above {maths}, and keep the new outputs"
    assert measured(name) == pytest.approx(known[key], rel=1e-3, abs=1e-3), said


if __name__ == "__main__":
    kept = json.loads(KNOWN.read_text()) if KNOWN.exists() else {}
    new = {f"{name} {record.maths}": measured(name) for name, record in METHODS.items()}
    lines = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in {**kept, **new}.items())
    KNOWN.write_text("{\n" + ",\n".join(lines) + "\n}\n")
