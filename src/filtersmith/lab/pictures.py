"""What the networks of a comparison say about test images, drawn once for each network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filtersmith.common.options import first_line
from filtersmith.lab.deployed import load_network
from filtersmith.lab.recipe.config import CompareConfig
from filtersmith.lab.results import shown
from filtersmith.lab.results.shown import Shown
from filtersmith.lab.runs import Planned, plan
from filtersmith.lab.tasks.names import info_of, task_named
from filtersmith.lab.training.standing import examine
from filtersmith.zoo import checkpoints, importing


def draw(config: CompareConfig, out: Path, data: Any, note: Callable[[str], None]) -> tuple[Shown, ...]:
    """Of every method the pictures of its first seed, where that is finished; written beside the results.

    Args:
        config: with the methods and seeds of earlier calls.
        out: the folder of the comparison.
        data: the loaded data set, a `TaskData`.
        note: told why there are none.

    Returns:
        What the file holds now; nothing, and no file, where there are no pictures.
    """
    if not info_of(config.task).pictures:
        return ()
    try:
        before = {(one.method, one.weights): one for one in shown.load(out)}
    except ValueError:  # it is made of what is there, and can be made again
        before = {}
    try:
        found = tuple(_drawn(config, out, data, before))
    except Exception as error:  # all is trained: the results must be seen all the same
        note(f"warning: there are no pictures of what the networks say: {first_line(error)}")
        found = ()
    if found:
        shown.save(found, out)
    else:
        (out / shown.FILE_NAME).unlink(missing_ok=True)
    return found


def _drawn(config: CompareConfig, out: Path, data: Any, before: dict[tuple[str, str], Shown]) -> Iterator[Shown]:
    task = task_named(config.task)
    for one in _first_seeds(config, out):
        weights = checkpoints.digest(str(one.folder.model))
        if (known := before.get((one.arm, weights))) is not None:
            yield known
            continue
        manifest = one.folder.read_manifest()
        facts = manifest["network"]
        with importing.searched_first((manifest.get("model") or {}).get("folder")):
            network = load_network(one.folder.read_config(), facts, one.folder.model)
        yield Shown(
            method=one.arm, seed=one.seed, weights=weights, pictures=tuple(task.pictures(network, data, facts))
        )


def _first_seeds(config: CompareConfig, out: Path) -> Iterator[Planned]:
    """The runs of the first seed that are finished."""
    for one in plan(config, out):
        if one.seed == config.seeds[0] and one.folder.exists() and examine(one.folder).status == "finished":
            yield one
