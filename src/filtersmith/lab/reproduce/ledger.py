"""The ledger: finished runs as small JSON files, one a run, so that runs of different days and machines add up.

No weights are kept. A file says what was trained (`Arm.spec`), on which data, at which scale and precision, by which
versions of the mathematics, on which machine, and the accuracies after each epoch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from filtersmith.lab.recipe.arms import slug
from filtersmith.lab.reproduce.arms import Arm, digest
from filtersmith.lab.results.document import Run, read, write_atomically
from filtersmith.methods import METHODS
from filtersmith.methods.spelling import read as read_methods

SCHEMA = 1
TRAINING = 1
"""Raised when the laboratory's training, its schedules, augmentation or networks compute something else than before:
runs of different numbers do not stand in one table. `Method.maths` is the number of a method."""

Fraction = Annotated[float, Field(ge=0, le=1)]


class Entry(BaseModel):
    """One finished run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Annotated[Literal[1], Field(alias="schema")] = 1
    key: str
    spec: dict[str, Any]
    seed: Annotated[int, Field(ge=0)]
    data: str
    """Title of the data set."""
    data_digest: str
    scale: Annotated[float, Field(gt=0, le=1)]
    precision: str
    maths: dict[str, int]
    environment: dict[str, Any]
    phase_starts: tuple[int, ...] = ()
    sub_phases: tuple[tuple[int, int], ...] = ()
    parameters_training: int | None = None
    parameters_deployed: int | None = None
    alone: bool | None = None
    seconds: float
    test_accuracy: Annotated[tuple[Fraction, ...], Field(min_length=1)]
    train_accuracy: tuple[Fraction, ...] = ()

    @property
    def setting(self) -> tuple[str, str, float, str]:
        """What all runs of a table have in common."""
        return self.data, self.data_digest, self.scale, self.precision

    @property
    def current(self) -> bool:
        """Whether today's code would compute the same."""
        return self.maths == maths_of(self.spec)

    @property
    def hardware(self) -> str:
        """The class of machine: the GPU's name, or the processor's."""
        device = str(self.environment.get("device", "cpu"))
        return device if device != "cpu" else f"CPU ({self.environment.get('cpu', 'unknown')})"

    @property
    def file_name(self) -> str:
        """Readable, and of one run only."""
        what = slug(f"{self.spec['method']}@{self.spec['network']}")[:60].rstrip("-.@")
        where = digest([self.key, *self.setting, self.maths])[:8]
        return f"{what}-{slug(self.data).lower()}-{where}-seed-{self.seed}.json"


def maths_of(spec: Mapping[str, Any]) -> dict[str, int]:
    """The versions of all mathematics that a run depends on: of the training, and of each method."""
    found = {"training": TRAINING}
    found |= {name: METHODS[name].maths for name in _methods_in(spec["method"])}
    for name in ("teacher", "begins_with"):
        if spec.get(name):
            found |= maths_of(spec[name])
    if spec.get("generations", 1) > 1 or spec.get("teacher"):
        found["kd"] = METHODS["kd"].maths
    return dict(sorted(found.items()))


@cache
def _methods_in(text: str) -> tuple[str, ...]:
    """Their names; a ledger has few texts and many runs."""
    return tuple(one.name for one in read_methods(text))


def entry_of(arm: Arm, seed: int, run: Run, manifest: Mapping[str, Any], *, title: str, scale: float) -> Entry:
    """A finished run as the ledger keeps it; ``manifest`` is that of its folder."""
    spec = arm.spec()
    return Entry(
        key=arm.key,
        spec=spec,
        seed=seed,
        data=title,
        data_digest=data_digest(manifest["data"]),
        scale=scale,
        precision=arm.train.precision,
        maths=maths_of(spec),
        environment=dict(manifest["environment"]),
        phase_starts=run.phase_starts,
        sub_phases=run.sub_phases,
        parameters_training=run.parameters_training,
        parameters_deployed=run.parameters_deployed,
        alone=run.alone,
        seconds=round(sum(epoch.train_seconds for epoch in run.epochs), 1),
        test_accuracy=tuple(round(epoch.test_accuracy, 6) for epoch in run.epochs),
        train_accuracy=tuple(round(epoch.train_accuracy, 6) for epoch in run.epochs),
    )


def data_digest(fingerprint: Mapping[str, Any]) -> str:
    """The classes and the test images of a data set: what all rows of a table share, whatever they train on."""
    return digest([fingerprint.get("class_digest"), fingerprint.get("splits", {}).get("test")])


def save(entry: Entry, folder: Path) -> Path:
    """Write an entry under its own name."""
    text = json.dumps(entry.model_dump(mode="json", by_alias=True), ensure_ascii=False, indent=1)
    return write_atomically(folder / entry.file_name, text + "\n")


def load(folder: Path) -> list[Entry]:
    """Every entry of a ledger, in the order of the files; none where there is no folder.

    Raises:
        ValueError: a file that is no entry, or of another schema. One line that names it.
    """
    return [read(file, "an entry of a ledger", SCHEMA, Entry) for file in sorted(folder.glob("*.json"))]


def found(entries: Iterable[Entry], key: str) -> dict[int, Entry]:
    """The entries of an arm that today's code would make, by seed."""
    return {entry.seed: entry for entry in entries if entry.key == key and entry.current}
