"""What the folder of a run holds, and whether a call may go on with it: looked at by all that read or write runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filtersmith.lab import network as networks
from filtersmith.lab.data.fingerprint import difference
from filtersmith.lab.recipe.config import RunConfig
from filtersmith.lab.recipe.origin import about
from filtersmith.lab.teachers import names as teachers
from filtersmith.lab.training import checkpoint as checkpoints
from filtersmith.lab.training.folder import RunFolder
from filtersmith.methods.outside import names_in


@dataclass(frozen=True)
class Standing:
    """What a folder holds.

    Attributes:
        status: ``nothing``, ``begun`` (a checkpoint may be there), ``finished`` (and whole) or ``damaged``: finished,
            but not whole.
        wrong: what is not as it was written, in words; a run that is taken up again writes it anew.
        checkpoint: the newest one, from which the run would go on.
    """

    status: Literal["nothing", "begun", "finished", "damaged"]
    wrong: tuple[str, ...] = ()
    checkpoint: Path | None = None


def examine(folder: RunFolder) -> Standing:
    """What a folder holds. Reads all files of a finished run; checkpoints are looked into by `admit`."""
    if not folder.exists():
        return Standing("nothing")
    newest = next(iter(folder.all_checkpoints()[-1:]), None)
    try:
        manifest = folder.read_manifest()
    except ValueError as error:
        return Standing("damaged", (str(error),), newest)
    if not manifest and folder.model.exists():  # nobody knows what that network is
        return Standing("damaged", (f"{folder.manifest.name} is missing",), newest)
    if manifest.get("status") != "finished":
        return Standing("begun", checkpoint=newest)
    lacking = None if folder.result() is not None else f"{folder.manifest.name} lacks what a result needs"
    looked_at = (lacking, folder.wrong_config(), folder.wrong_metrics(), folder.wrong_model())
    wrong = [found for found in looked_at if found is not None]
    return Standing("damaged" if wrong else "finished", tuple(wrong), newest)


def admit(folder: RunFolder, config: RunConfig, data: Mapping[str, Any], *, resume: bool) -> Standing:
    """`examine`, and refuse what this call must not go on with; nothing is written.

    Args:
        folder: where the run stands, or will.
        config: what is to be run.
        data: the fingerprint of its data.
        resume: whether a run that stands there may be gone on with.

    Raises:
        ValueError: a run of another recipe, of other data, code or weights; one that may not be gone on with; a
            checkpoint that is damaged or of an earlier version; a finished run that is damaged and has no checkpoint.
    """
    folder.check_places()
    standing = examine(folder)
    if standing.status == "nothing":
        return standing
    if not resume:
        raise ValueError(f"--out {folder.path} holds a run already: --resume auto goes on with it")
    newest = standing.checkpoint
    if standing.status != "finished" and newest is not None:
        checkpoints.check(newest)
    folder.check_same(config)
    manifest = folder.manifest_or_nothing()
    _check_data(folder, manifest.get("data"), data)
    with about("model.name"):
        one_network(folder, manifest.get("model"), networks.fingerprint(config.model))
    with about("method"):
        _check_teachers(folder, manifest, config.method)
    if standing.status == "finished":
        return standing
    if newest is not None:
        _check_data(folder, checkpoints.read_data(newest), data)
    elif standing.status == "damaged":
        raise ValueError(
            f"the run in {folder.path} is damaged ({'; '.join(standing.wrong)}) and has no checkpoint to make it "
            "whole from: remove that folder to train it anew, or choose another --out"
        )
    return standing


def one_data(folders: Iterable[RunFolder], data: Mapping[str, Any]) -> None:
    """``ValueError`` where a run that is to stand in one table was on other data than the others."""
    for folder in folders:
        _check_data(folder, folder.manifest_or_nothing().get("data"), data)


def one_network(folder: RunFolder, there: Any, here: Mapping[str, Any]) -> None:
    """``ValueError`` where a run's code or weights were others; one of a version before they were noted passes."""
    if isinstance(there, dict) and (found := networks.difference(there, here)) is not None:
        raise ValueError(f"{folder.path} holds a run of another network: {found}; choose another --out")


def _check_teachers(folder: RunFolder, manifest: Mapping[str, Any], method: str) -> None:
    """``ValueError`` where a teacher has other weights than it had; one whose file is gone has done its work.

    One that stands elsewhere than it did is known by its weights.
    """
    if not manifest:
        return
    there, here = manifest.get("teachers") or {}, teachers.fingerprint(method)
    for old, new in zip(names_in(folder.read_config().method), names_in(method), strict=True):
        known = old in there and new in here
        if known and (found := networks.difference(there[old], here[new])) is not None:
            raise ValueError(f"{folder.path} holds a run with another teacher: {found}; choose another --out")
        if not known and old != new:
            raise ValueError(f"{folder.path} holds a run of the teacher {old}, not of {new}; choose another --out")


def _check_data(folder: RunFolder, there: Any, here: Mapping[str, Any]) -> None:
    """``ValueError`` where a run was on other data; one of a version before fingerprints is taken as it is."""
    if isinstance(there, dict) and there and (found := difference(there, dict(here))) is not None:
        raise ValueError(f"{folder.path} holds a run on other data: {found}; choose another --out")
