"""The ledger: finished runs as small JSON files, one a run, so that runs of different days and machines add up.

No weights are kept. A file says what was trained (`Arm.spec`), on which data, at which scale and precision, by which
versions of the mathematics, on which machine, and the accuracies (of other tasks the scores) after each epoch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from filtersmith.common.words import plural
from filtersmith.lab.recipe.arms import slug
from filtersmith.lab.reproduce.arms import Arm, digest, in_short
from filtersmith.lab.reproduce.maths import maths_of
from filtersmith.lab.results.document import Run, read, write_atomically

SCHEMA = 1

Fraction = Annotated[float, Field(ge=0, le=1)]


class Entry(BaseModel):
    """One finished run."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True)

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
    scores: dict[str, tuple[Fraction, ...]] = {}
    """What the task measures beside it, after each epoch."""

    @model_serializer(mode="wrap")
    def _without_nothing(self, rest: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Files of classification stay as they are."""
        found: dict[str, Any] = rest(self)
        return {name: value for name, value in found.items() if name != "scores" or value}

    @model_validator(mode="after")
    def _fits_together(self) -> Entry:
        specs = [self.spec]
        for one in specs:
            if not all(isinstance(one.get(name), str) for name in ("method", "network")):
                raise ValueError("spec: a network and a method are needed")
            if not isinstance(one.get("generations", 1), int):
                raise ValueError("spec: generations must be a whole number")
            before = [one.get(name) for name in ("teacher", "begins_with", "pretrained")]
            if not all(other is None or isinstance(other, dict) for other in before):
                raise ValueError("spec: teacher and begins_with are specs, too, and so is pretrained")
            specs += [other for other in before if other is not None]
        if self.key != digest(self.spec):
            raise ValueError("key: it is not that of the spec")
        epochs = len(self.test_accuracy)
        if any(later <= start for start, later in pairwise([0, *self.phase_starts, epochs])):
            raise ValueError(f"phase_starts: they must rise, and there are {plural(epochs, 'epoch')}")
        if wrong := [name for name, values in self.scores.items() if len(values) != epochs]:
            raise ValueError(f"scores: {wrong[0]} needs a value for each epoch, and there are {epochs:,}")
        return self

    @property
    def setting(self) -> tuple[str, str, float, str]:
        """What all runs of a table have in common."""
        return self.data, self.data_digest, self.scale, self.precision

    @property
    def current(self) -> bool:
        """Whether today's code would compute the same; not where one of its methods is not installed."""
        try:
            return self.maths == maths_of(self.spec)
        except ValueError:
            return False

    @property
    def hardware(self) -> str:
        """The class of machine: the GPU's name, or the processor's."""
        device = str(self.environment.get("device", "cpu"))
        return device if device != "cpu" else f"CPU ({self.environment.get('cpu', 'unknown')})"

    @property
    def file_name(self) -> str:
        """Readable, and of one run only."""
        where = digest([self.key, *self.setting, self.maths])[:8]
        return f"{in_short(self.spec)}-{slug(self.data).lower()}-{where}-seed-{self.seed}.json"


def entry_of(
    arm: Arm, seed: int, run: Run, manifest: Mapping[str, Any], *, data: tuple[str, str], scale: float
) -> Entry:
    """A finished run as the ledger keeps it; ``manifest`` is that of its folder, ``data`` title and digest."""
    spec = arm.spec()
    return Entry(
        key=arm.key,
        spec=spec,
        seed=seed,
        data=data[0],
        data_digest=data[1],
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
        train_accuracy=tuple(round(e.train_accuracy, 6) for e in run.epochs if e.train_accuracy is not None),
        scores={name: tuple(round(e.scores[name], 6) for e in run.epochs) for name in run.epochs[-1].scores},
    )


def data_digest(fingerprint: Mapping[str, Any]) -> str:
    """Of a whole data set: what all rows of a table share, whatever of it they train on or hold out."""
    return digest([fingerprint.get("class_digest"), fingerprint.get("splits")])


def save(entry: Entry, folder: Path) -> Path:
    """Write an entry under its own name."""
    text = json.dumps(entry.model_dump(mode="json", by_alias=True), ensure_ascii=False, indent=1)
    return write_atomically(folder / entry.file_name, text + "\n")


def load(folder: Path) -> list[Entry]:
    """Every entry of a ledger, in the order of the files; none where there is no folder.

    Raises:
        ValueError: a file that is no entry, of another schema, or named as another. One line that names it.
    """
    found = []
    for file in sorted(folder.glob("[!.]*.json")):  # what a system keeps beside files begins with a dot
        entry = read(file, "an entry of a ledger", SCHEMA, Entry)
        if file.name != entry.file_name:
            raise ValueError(f"{file} is not named as its run: {entry.file_name} (a copy would count twice)")
        found.append(entry)
    return found


def found(entries: Iterable[Entry], key: str) -> dict[int, Entry]:
    """The entries of an arm that today's code would make, by seed."""
    return {entry.seed: entry for entry in entries if entry.key == key and entry.current}
