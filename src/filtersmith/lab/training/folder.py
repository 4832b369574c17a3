"""The folder of a run: what stands in it, and that it is never left unreadable.

======================  ==========================================================================
``config.yaml``         the configuration, written first; a run of another one is refused
``metrics.jsonl``       one line an epoch
``checkpoints/``        ``step-00001234``: everything needed to go on, the newest two; see `checkpoint`
``manifest.json``       status (``running``, ``finished``, ``failed``, ``interrupted``), configuration, environment,
                        parameters, the data's fingerprint, and the digests of metrics and network when it is over
``model.safetensors``   the deployed network, when finished
``.lock``               who works here; see `locking`
======================  ==========================================================================

Files appear whole, by renaming; checkpoints too. A run killed at any moment can be resumed or read. `standing` says
what a folder holds and whether it can be gone on with.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from filtersmith.common.options import first_line
from filtersmith.common.words import plural
from filtersmith.lab.recipe.config import RunConfig, check, first_difference, read_recipe, to_yaml
from filtersmith.lab.results.document import Epoch, Run, write_atomically
from filtersmith.lab.training.checkpoint import CONFIG, name_of
from filtersmith.lab.training.digests import difference, digest, seal, unseal
from filtersmith.methods.outside import unnamed

_KEPT = 2
_MANIFEST_FORMAT = 2
"""From this one on a manifest carries its own digest."""


MODEL = "model.safetensors"
"""The file of the deployed network."""


class RunFolder:
    """The files of one run under ``path``."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: Path = Path(path)
        self.config: Path = self.path / "config.yaml"
        self.metrics: Path = self.path / "metrics.jsonl"
        self.manifest: Path = self.path / "manifest.json"
        self.model: Path = self.path / MODEL
        self.checkpoints: Path = self.path / "checkpoints"

    def create(self, config: RunConfig) -> None:
        """Make the folder and write its configuration. ``ValueError`` where that cannot be done."""
        make_folder(self.path)
        make_folder(self.checkpoints)
        write_atomically(self.config, to_yaml(config))

    def exists(self) -> bool:
        """Whether a run was begun here."""
        files = (self.config, self.manifest, self.metrics, self.model)
        return any(file.is_file() for file in files) or bool(self.all_checkpoints())

    def check_places(self) -> None:
        """``ValueError`` where a file could not be written after all the training."""
        for file in (self.config, self.manifest, self.metrics, self.model):
            if file.is_dir():
                raise ValueError(
                    f"{file} is a folder, and a file has that name in a run: remove it, or choose another --out"
                )

    def check_same(self, config: RunConfig) -> None:
        """``ValueError`` naming the first option in which the run that stands here is another one.

        Where a teacher stands is none: a folder may be moved with all its runs. `admit` compares what teachers are.
        """
        if not self.config.is_file():
            raise ValueError(
                f"{self.config} is missing, so that nobody knows whose run this is; choose another --out"
            )
        # A checkpoint names its own recipe: one that was copied here from elsewhere must not pass for this run's.
        of_checkpoint = (checkpoint / CONFIG for checkpoint in self.all_checkpoints()[-1:])
        for file in (self.config, *(file for file in of_checkpoint if file.is_file())):
            other = first_difference(*map(_unnamed, (check(RunConfig, read_recipe(str(file))), config)))
            if other:
                raise ValueError(f"{self.path} holds a run of another recipe: {other}; choose another --out")

    def read_config(self) -> RunConfig:
        """The configuration that the run was begun with."""
        return check(RunConfig, read_recipe(str(self.config)))

    def read_manifest(self) -> dict[str, Any]:
        """The manifest; empty before there is one. ``ValueError`` where it is not as it was written."""
        try:
            text = self.manifest.read_bytes().decode()
            manifest = json.loads(text)
            if not isinstance(manifest, dict):
                raise ValueError("it holds no JSON object")
            return unseal(text) if "format" in manifest else manifest  # versions before had no digest in it
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            raise ValueError(f"{self.manifest} cannot be read: {first_line(error)}") from error

    def manifest_or_nothing(self) -> dict[str, Any]:
        """The manifest; empty also where it cannot be read."""
        try:
            return self.read_manifest()
        except ValueError:
            return {}

    def write_manifest(self, values: Mapping[str, Any]) -> None:
        """Write it with its own digest; when the run is over, with those of the files that are not written again."""
        over = [file for file in (self.metrics, self.model) if values.get("status") != "running" and file.is_file()]
        files = {file.name: digest(file.read_bytes()) for file in over}
        write_atomically(self.manifest, seal({"format": _MANIFEST_FORMAT, **values, "files": files}))

    def wrong_config(self) -> str | None:
        """What is wrong with the configuration of a run that is over; ``None`` where nothing is."""
        try:
            there, kept = self.read_config(), self.manifest_or_nothing().get("config")
            other = None if kept is None else first_difference(check(RunConfig, kept), there)
        except ValueError as error:
            return first_line(error)
        return other and f"{self.config.name} is of another recipe: {other}"

    def wrong_metrics(self) -> str | None:
        """What is wrong with the metrics of a run that is over; ``None`` where nothing is."""
        manifest = self.manifest_or_nothing()
        if (wanted := manifest.get("files", {}).get(self.metrics.name)) is not None:
            return difference(self.metrics, wanted)
        if manifest.get("status") != "finished":
            return None
        done, epochs = len(self.read_metrics()), self.read_config().train.epochs  # of a version before digests
        return None if done == epochs else f"{self.metrics.name} has {done} of {plural(epochs, 'epoch')}"

    def wrong_model(self) -> str | None:
        """What is wrong with the deployed network of a finished run; ``None`` where nothing is."""
        if (wanted := self.manifest_or_nothing().get("files", {}).get(self.model.name)) is not None:
            return difference(self.model, wanted)
        try:
            with safe_open(str(self.model), "pt"):
                return None
        except FileNotFoundError:
            return f"{self.model.name} is missing"
        except (OSError, SafetensorError) as error:
            return f"{self.model.name} cannot be read: {first_line(error)}"

    def finished(self) -> bool:
        """Whether the manifest says so; `standing` looks whether everything is there."""
        return self.manifest_or_nothing().get("status") == "finished"

    def append_metrics(self, epoch: Epoch) -> None:
        with self.metrics.open("a", encoding="utf-8") as stream:
            stream.write(epoch.model_dump_json() + "\n")

    def write_metrics(self, epochs: Iterable[Epoch]) -> None:
        """All lines anew: what was logged after the checkpoint that a run resumes from did not happen."""
        write_atomically(self.metrics, "".join(epoch.model_dump_json() + "\n" for epoch in epochs))

    def read_metrics(self) -> list[Epoch]:
        """The epochs so far, up to the first line that is none. A last line cut off by a kill is left out."""
        try:
            lines = self.metrics.read_bytes().splitlines(keepends=True)
        except OSError:
            return []
        epochs: list[Epoch] = []
        for line in lines:
            try:
                epoch = Epoch.model_validate_json(line)
            except ValueError:
                break
            if not line.endswith(b"\n") or epoch.epoch != len(epochs) + 1:
                break
            epochs.append(epoch)
        return epochs

    def result(self) -> Run | None:
        """The run as it stands, for a table; ``None`` before it has a manifest, or where that cannot be read.

        What is finished and damaged counts as interrupted: the same call makes it whole.
        """
        manifest = self.manifest_or_nothing()
        if not {"method", "seed"} <= manifest.keys():
            return None
        whole = self.wrong_metrics() is None
        # A run that was killed still says that it is running.
        status: Any = manifest.get("status")
        if status != "failed" and not (status == "finished" and whole):
            status = "interrupted"
        try:
            return Run(
                method=manifest["method"],
                seed=manifest["seed"],
                status=status,
                error=manifest.get("error"),
                parameters_training=manifest.get("parameters_training"),
                parameters_deployed=manifest.get("parameters_deployed"),
                phase_starts=tuple(manifest.get("phase_starts", ())),
                sub_phases=tuple(tuple(phase) for phase in manifest.get("sub_phases", ())),
                alone=manifest.get("alone"),
                epochs=tuple(self.read_metrics()) if whole else (),
            )
        except (ValueError, TypeError):
            return None

    def new_checkpoint(self) -> Path:
        """An empty folder to write a checkpoint into; `publish` makes it one."""
        partial = self.checkpoints / ".partial"
        for leftover in (partial, *self.checkpoints.glob(".old-*")):  # of a run that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        partial.mkdir(parents=True)
        return partial

    def publish(self, partial: Path, step: int) -> Path:
        """Turn a complete folder into the checkpoint of ``step`` at once, and remove those before the last two."""
        checkpoint = self.checkpoints / name_of(step)
        if checkpoint.exists():  # the same step again: an interrupt right after an epoch's end
            shutil.rmtree(partial)
        else:
            os.replace(partial, checkpoint)
        for old in self.all_checkpoints()[:-_KEPT]:
            doomed = self.checkpoints / f".old-{old.name}"
            os.replace(old, doomed)
            shutil.rmtree(doomed, ignore_errors=True)
        return checkpoint

    def all_checkpoints(self) -> list[Path]:
        """Complete checkpoints, the oldest first."""
        return sorted(self.checkpoints.glob("step-*")) if self.checkpoints.is_dir() else []


def _unnamed(config: RunConfig) -> RunConfig:
    return config.model_copy(update={"method": unnamed(config.method)})


def make_folder(path: Path) -> None:
    """Make a folder that can be written to, or raise a one-line ``ValueError``."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".write-test-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise _unwritable(path, error) from error


def check_writable(path: Path) -> None:
    """`make_folder` without making anything: what it would refuse, as far as the system tells."""
    there = next(folder for folder in (path, *path.absolute().parents) if os.path.lexists(folder))
    if not there.is_dir():
        raise _unwritable(path, _system_error(errno.EEXIST if there == path else errno.ENOTDIR))
    if not os.access(there, os.W_OK | os.X_OK):
        raise _unwritable(path, _system_error(errno.EACCES))


def _system_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def _unwritable(path: Path, error: OSError) -> ValueError:
    in_the_way = next((str(place) for place in (path, *path.parents) if place.is_file()), None)
    if error.errno in (errno.EEXIST, errno.ENOTDIR) and in_the_way is not None:
        what = "it" if in_the_way == str(path) else in_the_way
        return ValueError(f"--out {path} cannot be written to: {what} is a file, and a folder is needed")
    return ValueError(f"--out {path} cannot be written to: {error.strerror or error}")
