"""The result document: what a comparison measured, as plain JSON that outlives the code that wrote it.

One file holds one comparison (one data set, one network, one recipe, several methods and seeds). The tables,
the report and the documentation are all generated from it; nothing is measured twice. Accuracies are
fractions, times seconds, epochs count from 1.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from filtersmith.common.words import plural
from filtersmith.lab.tasks.names import CLASSIFICATION, TASKS, TaskInfo
from filtersmith.methods import BASELINE

FILE_NAME = "results.json"
SCHEMA = 1
Record = TypeVar("Record", bound=BaseModel)


def _finite_or_none(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Fraction = Annotated[float, Field(ge=0, le=1)]
# JSON has no NaN: a loss that diverged is null in the file.
Loss = Annotated[float | None, BeforeValidator(_finite_or_none)]


class _Record(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True)


class Filters(_Record):
    """What the filters of all convolutions did after an epoch (`train.audit`)."""

    ortho_sum: Loss
    """The sum of O_f, how much each filter overlaps with those of its layer (RePr, Fig. 8)."""
    rank: Loss
    """Effective rank of the filter matrices, as a share of the most that it can be, over all layers."""
    dead: int
    """Filters that give the same whatever they read; those that are left out now are among them."""
    filters: int
    """Of all layers."""
    correlation: Loss = None
    """Mean |r| of the maps of two filters of a layer on test images, over all layers; of the last epoch alone."""


class Epoch(_Record):
    """One epoch of one run: `epoch` from 1, accuracies in [0, 1], `train_seconds` without the evaluation.

    Of another task than classification `test_accuracy` is its score, such as the average precision.
    """

    epoch: Annotated[int, Field(ge=1)]
    lr: float
    train_loss: Loss
    train_accuracy: Fraction | None
    test_loss: Loss
    test_accuracy: Fraction
    train_seconds: Annotated[float, Field(ge=0)]
    filters: Filters | None = None
    scores: dict[str, Fraction] = {}
    """What the task measures beside it."""

    @model_serializer(mode="wrap")
    def _without_nothing(self, rest: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Files of runs that were not audited, and of classification, stay as they are."""
        found: dict[str, Any] = rest(self)
        return {k: v for k, v in found.items() if k not in ("filters", "scores") or v}


class Run(_Record):
    """One method with one seed; a failed or interrupted run keeps the epochs that it had finished."""

    method: str
    seed: int
    status: Literal["finished", "failed", "interrupted"]
    error: str | None = None
    """Why the run failed, in one line; None otherwise."""
    parameters_training: int | None = None
    parameters_deployed: int | None = None
    phase_starts: tuple[int, ...] = ()
    """Epochs after which a new phase of the method began (the restarts of ASA, for instance)."""
    sub_phases: tuple[tuple[int, int], ...] = ()
    """Phases in which only a part of the network was trained: epochs after which each began and ended."""
    alone: bool | None = None
    """Whether the machine had nothing else to do while it was trained; None where nobody could tell."""
    epochs: tuple[Epoch, ...] = ()

    @model_validator(mode="after")
    def _epochs_in_order(self) -> Run:
        if [epoch.epoch for epoch in self.epochs] != list(range(1, len(self.epochs) + 1)):
            raise ValueError(f"the epochs of {self.method}, seed {self.seed}, must count 1, 2, 3, ...")
        return self


class Ensemble(_Record):
    """What all generations of a method are worth together, with one seed: the mean of their probabilities decides."""

    method: str
    seed: int
    members: Annotated[int, Field(ge=2)]
    test_accuracy: Fraction


class Comparison(_Record):
    """Everything that one `filtersmith compare` measured, in the order in which tables show it."""

    schema_version: Annotated[Literal[1], Field(alias="schema")] = 1
    title: str
    task: str = CLASSIFICATION
    data: str
    data_title: str
    model: str
    epochs: Annotated[int, Field(ge=1)]
    seeds: tuple[int, ...]
    config: dict[str, Any] = {}
    environment: dict[str, Any] = {}
    test_images: Annotated[int | None, Field(ge=1)] = None
    """None in files that were written before it was kept."""
    fingerprint: dict[str, Any] | None = None
    """What data all runs had (`filtersmith.lab.data.fingerprint`); None in files of versions before it was kept."""
    networks: dict[str, dict[str, Any]] = {}
    """Digests of the code of networks of a user's own, and which weights of which file the runs began with."""
    times_measured_alone: bool = False
    """Whether nothing else ran on the machine, of a file whose runs do not say it; set by hand by whoever knows."""
    methods: Annotated[tuple[str, ...], Field(min_length=1)]
    runs: tuple[Run, ...] = ()
    ensembles: tuple[Ensemble, ...] = ()
    """Of born-again networks, by method and seed."""
    not_together: dict[str, str] = {}
    """Pairs of methods that were asked for and do not go together -> why."""

    @model_validator(mode="after")
    def _runs_belong(self) -> Comparison:
        for what, values in (("methods", self.methods), ("seeds", self.seeds)):
            if len(set(values)) != len(values):
                raise ValueError(f"{what} must not repeat, got {list(values)}")
        seen = set()
        for run in self.runs:
            name = f"the run of {run.method}, seed {run.seed},"
            if run.method not in self.methods or run.seed not in self.seeds:
                raise ValueError(f"{name} is not among the methods and seeds of the comparison")
            if (run.method, run.seed) in seen:
                raise ValueError(f"{name} is there twice")
            seen.add((run.method, run.seed))
            # A shorter run beside longer ones would pass for a worse method.
            if run.status == "finished" and len(run.epochs) != self.epochs:
                raise ValueError(f"{name} is finished with {len(run.epochs)} of {plural(self.epochs, 'epoch')}")
        return self

    @property
    def times_count(self) -> bool:
        """Whether times may be shown: every run that enters a ratio to the baseline had the machine to itself."""
        finished = [run for run in self.runs if run.status == "finished"]
        seeds = {run.seed for run in finished if run.method == BASELINE}
        others = {run.seed for run in finished if run.method != BASELINE}
        paired = [run for run in finished if run.seed in seeds & others]
        return self.times_measured_alone or (bool(paired) and all(run.alone is True for run in paired))

    @property
    def about(self) -> TaskInfo:
        """How the scores are called; of a task that this version does not know, as scores."""
        return TASKS.get(self.task) or TaskInfo("", self.task, "score")

    def find_run(self, method: str, seed: int) -> Run | None:
        """The run of this method and seed, whatever its status, or None when there is none yet."""
        return next((run for run in self.runs if (run.method, run.seed) == (method, seed)), None)


def load(path: str | os.PathLike[str]) -> Comparison:
    """Read a results file, or the `results.json` of a folder.

    Raises ValueError, in one line that names the file, when it is missing, not JSON, or not of this schema.
    """
    file = Path(path)
    if file.is_dir():
        file = file / FILE_NAME
    if not file.exists():
        raise ValueError(f"{file} does not exist; a results file or a folder with {FILE_NAME} is needed")
    return read(file, "a results file", SCHEMA, Comparison)


def read(file: Path, what: str, schema: int, record: type[Record]) -> Record:
    """A JSON file as a record.

    Args:
        file: that there is.
        what: it should be, for the errors.
        schema: the number that it has to have.
        record: the class of the record.

    Raises:
        ValueError: it is not JSON, of another schema, or lacks something. One line that names the file.
    """
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is not {what}: it is no JSON from line {error.lineno} on") from error
    except (OSError, ValueError, RecursionError) as error:  # no text; numbers or nesting beyond Python's limits
        raise ValueError(f"{file} cannot be read as {what}: {error}") from error
    if not isinstance(document, dict):
        raise ValueError(f"{file} is not {what}: it holds no JSON object")
    if document.get("schema") != schema:
        raise ValueError(f"{file} has schema {document.get('schema')!r}; this version reads schema {schema}")
    try:
        return record.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{file} is not {what}: {where + ': ' if where else ''}{message}") from error


def dumps(comparison: Comparison) -> str:
    """The document as JSON text with one run a line, so that a diff shows which runs changed."""
    document = comparison.model_dump(mode="json", by_alias=True)
    lines = [_member(key, value) for key, value in document.items() if key != "runs"]
    runs = ",\n  ".join(_json(run) for run in document["runs"])
    lines.append(f'"runs": [\n  {runs}]' if runs else '"runs": []')
    return "{" + ",\n ".join(lines) + "}\n"


def save(comparison: Comparison, path: str | os.PathLike[str]) -> Path:
    """Write the document to `path` (a file; its folder is made) so that a reader never sees half of it."""
    return write_atomically(path, dumps(comparison))


def write_atomically(path: str | os.PathLike[str], text: str) -> Path:
    """Write UTF-8 text through a temporary file in the same folder; returns the path."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    # Opened plainly, not by tempfile, so that the file gets the permissions that the user's umask gives.
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
    return file


def _member(key: str, value: object) -> str:
    return f"{_json(key)}: {_json(value)}"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
