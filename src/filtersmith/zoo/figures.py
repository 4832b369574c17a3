"""The size and the cost of every listed network as data, so that a listing needs neither torch nor the network.

``figures.json`` beside this file has them; ``make networks`` counts them anew, and a test fails where they are old.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources

FILE = "figures.json"


@cache
def figures() -> dict[str, tuple[int, int]]:
    """Name of a listed network -> its parameters and its multiply-adds, for the task for which it is listed."""
    text = (resources.files("filtersmith.zoo") / FILE).read_text(encoding="utf-8")
    return {name: (parameters, multiply_adds) for name, (parameters, multiply_adds) in json.loads(text).items()}


def to_json(counted: dict[str, tuple[int, int]]) -> str:
    """What stands in the file: a line for each network."""
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(costs)}" for name, costs in counted.items())
    return f"{{\n{lines}\n}}\n"
