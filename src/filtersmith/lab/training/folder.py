"""The folder of a run: what stands in it, and that it is never left unreadable.

====================  ============================================================================
``config.yaml``       the configuration, written first; a run of another one is refused
``metrics.jsonl``     one line an epoch
``checkpoints/``      ``step-00001234``: everything needed to go on, the newest two
``manifest.json``     status (``running``, ``finished``, ``failed``, ``interrupted``), environment, parameters
``model.safetensors``  the deployed network, when finished
====================  ============================================================================

Files appear whole, by renaming; checkpoints too. A run killed at any moment can be resumed or read.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from filtersmith.lab.recipe.config import RunConfig, check, first_difference, read_recipe, to_yaml, written_by_0_1
from filtersmith.lab.results.document import Epoch, Run, write_atomically

_KEPT = 2


class RunFolder:
    """The files of one run under ``path``."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.metrics = self.path / "metrics.jsonl"
        self.manifest = self.path / "manifest.json"
        self.model = self.path / "model.safetensors"
        self.checkpoints = self.path / "checkpoints"

    def create(self, config: RunConfig) -> None:
        """Make the folder and write its configuration. ``ValueError`` where that cannot be done."""
        make_folder(self.path)
        make_folder(self.checkpoints)
        write_atomically(self.config, to_yaml(config))

    def exists(self) -> bool:
        """Whether a run was begun here."""
        return self.config.is_file() or bool(self.all_checkpoints())

    def check_same(self, config: RunConfig) -> None:
        """``ValueError`` naming the first option in which the run that stands here is another one."""
        # A checkpoint names its own recipe: one that was copied here from elsewhere must not pass for this run's.
        for file in (self.config, *(checkpoint / self.config.name for checkpoint in self.all_checkpoints()[-1:])):
            if not file.is_file():
                raise ValueError(f"{file} is missing, so that nobody knows whose run this is; choose another --out")
            difference = first_difference(check(RunConfig, read_recipe(str(file))), config)
            if difference:
                raise ValueError(f"{self.path} holds a run of another recipe: {difference}; choose another --out")

    def check_checkpoint(self) -> None:
        """``ValueError`` where the newest checkpoint is one of version 0.1, which had other states of methods."""
        for checkpoint in self.all_checkpoints()[-1:]:
            if written_by_0_1(read_recipe(str(checkpoint / self.config.name))):
                raise ValueError(
                    f"{self.path} holds an unfinished run of filtersmith 0.1, and this version cannot go on from its "
                    f"checkpoints: remove {self.checkpoints} to train it anew, or choose another --out"
                )

    def read_config(self) -> RunConfig:
        """The configuration that the run was begun with."""
        return check(RunConfig, read_recipe(str(self.config)))

    def read_manifest(self) -> dict[str, Any]:
        """The manifest; empty before there is one."""
        try:
            manifest = json.loads(self.manifest.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise ValueError(f"{self.manifest} cannot be read: {error}") from error
        return manifest if isinstance(manifest, dict) else {}

    def write_manifest(self, values: Mapping[str, Any]) -> None:
        write_atomically(self.manifest, json.dumps(values, indent=1, ensure_ascii=False) + "\n")

    def finished(self) -> bool:
        return self.read_manifest().get("status") == "finished"

    def append_metrics(self, epoch: Epoch) -> None:
        with self.metrics.open("a", encoding="utf-8") as stream:
            stream.write(epoch.model_dump_json() + "\n")

    def write_metrics(self, epochs: Iterable[Epoch]) -> None:
        """All lines anew: what was logged after the checkpoint that a run resumes from did not happen."""
        write_atomically(self.metrics, "".join(epoch.model_dump_json() + "\n" for epoch in epochs))

    def read_metrics(self) -> list[Epoch]:
        """The epochs so far. A last line cut off by a kill is left out."""
        try:
            text = self.metrics.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        return [Epoch.model_validate_json(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def result(self) -> Run | None:
        """The run as it stands, for a table; ``None`` before it has a manifest."""
        manifest = self.read_manifest()
        if not manifest:
            return None
        status = manifest.get("status")
        return Run(
            method=manifest["method"],
            seed=manifest["seed"],
            # A run that was killed still says that it is running.
            status=status if status in ("finished", "failed") else "interrupted",
            error=manifest.get("error"),
            parameters_training=manifest.get("parameters_training"),
            parameters_deployed=manifest.get("parameters_deployed"),
            phase_starts=tuple(manifest.get("phase_starts", ())),
            sub_phases=tuple(tuple(phase) for phase in manifest.get("sub_phases", ())),
            alone=manifest.get("alone"),
            epochs=tuple(self.read_metrics()),
        )

    def new_checkpoint(self) -> Path:
        """An empty folder to write a checkpoint into; `publish` makes it one."""
        partial = self.checkpoints / ".partial"
        for leftover in (partial, *self.checkpoints.glob(".old-*")):  # of a run that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        partial.mkdir(parents=True)
        return partial

    def publish(self, partial: Path, step: int) -> Path:
        """Turn a complete folder into the checkpoint of ``step`` at once, and remove those before the last two."""
        checkpoint = self.checkpoints / f"step-{step:08d}"
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


def make_folder(path: Path) -> None:
    """Make a folder that can be written to, or raise a one-line ``ValueError``."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".write-test-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(f"--out {path} cannot be written to: {error.strerror or error}") from error
