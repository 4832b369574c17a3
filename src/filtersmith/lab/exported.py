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
from filtersmith.zoo import importing
from filtersmith.zoo.places import refuse_own_code
from filtersmith.zoo.pretrained import WEIGHTS


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


def load(file: Path | str, *, own_code: bool = False) -> Loaded:
    """The network that ``filtersmith export --format safetensors``, or ``hub``, wrote.

    >>> load("net.safetensors")                                                     # doctest: +SKIP
    Loaded(network=ResNet(...), task='classification', facts={'num_classes': 10, 'mean': [0.49, 0.48, 0.45], ...})

    Args:
        file: the file, or the folder of the format ``hub``.
        own_code: whether a function of a user's own file or module may be called that the file names as its network.
            Say True only where you wrote the file. The code is looked for in its folder, then in the current one.

    Raises:
        ValueError: no such file, or another one; a network of a user's own code without ``own_code``, or whose code
            is not at hand.
    """
    file = Path(file).expanduser()
    file = file / WEIGHTS if file.is_dir() else file
    try:
        with safe_open(str(file), "pt") as opened:
            metadata: dict[str, str] = opened.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{file} cannot be read as a safetensors file: {one_line(error)}") from error
    if missing := [name for name in (*TEXTS, "small_images", "seed", "facts") if name not in metadata]:
        raise ValueError(f"{file} was not written by this version's `filtersmith export`: it has no {missing[0]}")
    if not own_code:
        refuse_own_code(metadata["model"], file, "own_code=True runs it")
    about = described(metadata)
    config = RunConfig.model_validate(
        {
            "task": about["task"],
            "model": {"name": about["model"], "small_images": about["small_images"]},
            "data": {"name": about["data"]},
            "method": about["method"],
        }
    )
    with importing.searched_first(str(file.parent)):
        return Loaded(load_network(config, about["facts"], file), config.task, about["facts"])


def described(metadata: Mapping[str, str]) -> dict[str, Any]:
    """What an exported file says of its network, as plain values: the facts of the data stand within ``facts``."""
    known: dict[str, Any] = {name: metadata[name] for name in TEXTS}
    try:
        known |= {name: json.loads(metadata[name]) for name in ("small_images", "seed")}
        return {**known, "facts": {name: json.loads(metadata[name]) for name in json.loads(metadata["facts"])}}
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"what the file says of its data cannot be read: {one_line(error)}") from error
