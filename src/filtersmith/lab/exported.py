"""A network back from its exported safetensors file: the file alone is enough."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import nn

from filtersmith.lab.deployed import TEXTS, load_network, one_line
from filtersmith.lab.recipe.config import RunConfig


@dataclass(frozen=True)
class Loaded:
    """A network and what its file says of it.

    Attributes:
        network: in evaluation mode, on the CPU.
        task: a name in `filtersmith.lab.tasks.names.TASKS`.
        facts: of the data: ``classes``, or ``answers`` and ``words``, ``mean``, ``std``, ``image_size`` and so on.
    """

    network: nn.Module
    task: str
    facts: Mapping[str, Any]


def load(file: Path | str) -> Loaded:
    """The network that ``filtersmith export --format safetensors`` wrote.

    >>> load("net.safetensors")                                                     # doctest: +SKIP
    Loaded(network=ResNet(...), task='classification', facts={'num_classes': 10, 'mean': [0.49, 0.48, 0.45], ...})

    Raises:
        ValueError: no such file, or another one; a user's network whose code is not at hand.
    """
    try:
        with safe_open(str(file), "pt") as opened:
            described: dict[str, str] = opened.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{file} cannot be read as a safetensors file: {one_line(error)}") from error
    if missing := [name for name in (*TEXTS, "facts") if name not in described]:
        raise ValueError(f"{file} was not written by this version's `filtersmith export`: it has no {missing[0]}")
    facts = {name: json.loads(described[name]) for name in json.loads(described["facts"])}
    config = RunConfig.model_validate(
        {
            "task": described["task"],
            "model": {"name": described["model"], "small_images": json.loads(described["small_images"])},
            "data": {"name": described["data"]},
            "method": described["method"],
        }
    )
    return Loaded(load_network(config, facts, Path(file)), config.task, facts)
