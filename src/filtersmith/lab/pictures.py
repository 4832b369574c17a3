"""What the networks of a comparison say about test images, drawn once for each network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filtersmith.lab.deployed import load_network
from filtersmith.lab.recipe.config import CompareConfig
from filtersmith.lab.results import shown
from filtersmith.lab.results.shown import Shown
from filtersmith.lab.runs import Planned, plan
from filtersmith.lab.tasks.names import task_named
from filtersmith.lab.training.standing import examine
from filtersmith.zoo import checkpoints


def draw(config: CompareConfig, out: Path, data: Any) -> tuple[Shown, ...]:
    """Of every method the pictures of its first seed, where that is finished; written beside the results.

    Args:
        config: with the methods and seeds of earlier calls.
        out: the folder of the comparison.
        data: the loaded data set, a `TaskData`.

    Returns:
        What the file holds now; nothing, and no file, for a task that has no pictures.
    """
    try:
        before = {(one.method, one.weights): one for one in shown.load(out)}
    except ValueError:  # it is made of what is there, and can be made again
        before = {}
    found = tuple(_drawn(config, out, data, before))
    if any(one.pictures for one in found):
        shown.save(found, out)
        return found
    return ()


def _drawn(config: CompareConfig, out: Path, data: Any, before: dict[tuple[str, str], Shown]) -> Iterator[Shown]:
    task = task_named(config.task)
    for one in _first_seeds(config, out):
        weights = checkpoints.digest(str(one.folder.model))
        if (known := before.get((one.arm, weights))) is not None:
            yield known
            continue
        facts = one.folder.read_manifest()["network"]
        network = load_network(one.folder.read_config(), facts, one.folder.model)
        yield Shown(
            method=one.arm, seed=one.seed, weights=weights, pictures=tuple(task.pictures(network, data, facts))
        )


def _first_seeds(config: CompareConfig, out: Path) -> Iterator[Planned]:
    """The runs of the first seed that are finished."""
    for one in plan(config, out):
        if one.seed == config.seeds[0] and one.folder.exists() and examine(one.folder).status == "finished":
            yield one
