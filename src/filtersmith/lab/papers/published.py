"""What the papers published, and what is run for each of their rows: the files of this folder as records.

One file a paper, readable as its section of experiments: ``recipes`` (each choice with its source), then ``tables``
with every printed number, what is known to be wrong with it, and what we run for it. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from filtersmith.common.options import unknown_name
from filtersmith.lab.papers.sets import SETS

PAPERS = ("wau", "repr", "kflo", "dacnn")

NOT_RUN = {
    "cited": "cited from others, not run again",
    "derived": "follows from other rows",
    "setting": "a setting, not a result",
    "claim": "a claim without a number to compare with",
    "figure": "read from a figure",
    "log": "read from the authors' log",
}
"""Kinds of rows for which nothing is run -> why."""
COUNTED = ("parameters", "time")
"""Kinds of rows that are counted from the network alone."""


@dataclass(frozen=True)
class Choice:
    """A choice of a recipe, and where it is from."""

    name: str
    value: Any
    source: str


@dataclass(frozen=True)
class Recipe:
    """How networks are trained; ``choices`` are options of the laboratory, and what else is known in words."""

    name: str
    about: str
    choices: tuple[Choice, ...]

    def option(self, name: str, default: Any = None) -> Any:
        """The value of a choice."""
        return next((choice.value for choice in self.choices if choice.name == name), default)


@dataclass(frozen=True)
class Note:
    """What is known of printed numbers: of rows ``rows``, or of all."""

    id: str
    severity: str
    text: str
    rows: tuple[int, ...] = ()
    check: str = ""


@dataclass(frozen=True, eq=False)
class Row:
    """A row of a table.

    Attributes:
        n: its number.
        model, method: in the paper's words; ``label``: what we call the model, where the paper gives it in parts.
        value: the number, in the table's unit; ``None`` where none is printed.
        printed: as printed.
        dataset, params, metric, unit, location, delta, delta_printed, std, std_printed: likewise the paper's.
        network, data, run, recipe: the network, the data set (a name of `papers.sets`, which knows the task), the
            methods, the name of the recipe with which it is trained.
        score: which of the task's scores the number is, where it is not the first one.
        kind: of a row that is not trained: one of `NOT_RUN` or `COUNTED`.
        against: number of the row that it is compared with, or ``TABLE NUMBER`` of another table.
        phase: of a flow, after which of its phases it is measured.
        cycle: of a cycle, after which of its rounds: before the next one prunes, the last one at the end.
        generations: networks trained one after the other, each taught by the one before.
        teacher: the network that teaches it and the recipe by which that is trained.
        begins_with: pretrained networks with which it begins.
        pretrained: ``TABLE NUMBER`` of the row whose network is its backbone when it begins.
        holdout: training images held out for a criterion.
        reported: ``best``: the printed number is of the best test epoch.
        over, share_of: of a count: minus that of another network; or the share of it that is saved, in percent.
        see: where the number comes from, or is measured.
        why: why it is not run.
    """

    n: int
    model: str
    method: str
    value: float | None = None
    printed: str = ""
    dataset: str = ""
    params: Mapping[str, Any] = field(default_factory=dict, hash=False)
    metric: str = ""
    unit: str = ""
    location: str = ""
    delta: float | None = None
    delta_printed: str = ""
    std: float | None = None
    std_printed: str = ""
    network: str = ""
    data: str = ""
    run: str = ""
    recipe: str = ""
    score: str = ""
    kind: str = ""
    against: int | str | None = None
    phase: int | None = None
    cycle: int | None = None
    generations: int = 1
    teacher: str = ""
    begins_with: int = 0
    pretrained: str = ""
    holdout: int = 0
    reported: str = ""
    over: str = ""
    share_of: str = ""
    see: str = ""
    why: str = ""
    label: str = ""

    @property
    def name(self) -> str:
        """What the model is called."""
        return self.label or self.model

    @property
    def trained(self) -> bool:
        """Whether it is measured by training a network."""
        return bool(self.run)


@dataclass(frozen=True, eq=False)
class Table:
    """A table of a paper, or a figure, or one of ours beside it.

    ``better`` is ``higher`` or ``lower``, or ``-`` where the numbers are of different kinds.
    """

    id: str
    kind: str
    title: str
    claim: str
    location: str
    dataset: str
    metric: str
    unit: str
    better: str
    rows: tuple[Row, ...]
    notes: tuple[Note, ...] = ()

    @property
    def paper(self) -> str:
        return self.id.partition("/")[0]

    @property
    def of_errors(self) -> bool:
        """Whether the numbers are errors in percent, where the laboratory measures accuracies."""
        return "error" in self.metric

    def row(self, number: int) -> Row:
        """The row of a number; ``ValueError`` where there is none."""
        found = next((row for row in self.rows if row.n == number), None)
        if found is None:
            raise ValueError(f"{self.id} has no row {number}; it has {self.rows[0].n} to {self.rows[-1].n}")
        return found

    def trained(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.trained)

    def own_copies(self) -> tuple[str, ...]:
        """The sets of its rows that a person has to bring, and those on which their backbones are trained before."""
        every = [name for row in self.trained() for name in (row.data, *before(row))]
        return tuple(name for name in dict.fromkeys(every) if SETS[name].form)


@dataclass(frozen=True)
class Paper:
    """One paper: its recipes and its tables, in their order."""

    key: str
    title: str
    venue: str
    url: str
    code: str
    recipes: tuple[Recipe, ...]
    tables: tuple[Table, ...]

    def recipe(self, name: str) -> Recipe:
        """The recipe of a name; ``ValueError`` where there is none."""
        found = next((recipe for recipe in self.recipes if recipe.name == name), None)
        if found is None:
            raise unknown_name(f"recipe of {self.key}", name, [recipe.name for recipe in self.recipes])
        return found


@cache
def paper(key: str) -> Paper:
    """A paper by its key, one of `PAPERS`."""
    import yaml

    text = (resources.files(__package__) / f"{key}.yaml").read_text(encoding="utf-8")
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    found = yaml.load(text, Loader=loader)
    recipes = tuple(_recipe(name, about) for name, about in found["recipes"].items())
    return Paper(key, **found["paper"], recipes=recipes, tables=tuple(map(_table, found["tables"])))


def tables() -> Iterator[Table]:
    """Every table of every paper."""
    for key in PAPERS:
        yield from paper(key).tables


def table(name: str) -> Table:
    """A table by its id, ``repr/table4``; ``ValueError`` where there is none."""
    key = name.partition("/")[0]
    found = next((one for one in (paper(key).tables if key in PAPERS else ()) if one.id == name), None)
    if found is None:
        raise unknown_name("table", name, [one.id for one in tables()])
    return found


def recipe_of(row: Row, of: Table) -> Recipe:
    """How a row is trained."""
    return paper(of.paper).recipe(row.recipe)


def compared_with(row: Row, of: Table) -> tuple[Table, Row] | None:
    """The row that a row is compared with, and its table; ``None`` where there is none."""
    if row.against is None:
        return None
    if isinstance(row.against, int):
        return of, of.row(row.against)
    return row_named(row.against)


def row_named(place: str) -> tuple[Table, Row]:
    """The table and the row that ``TABLE NUMBER`` names; ``ValueError`` where there is none."""
    name, _, number = place.partition(" ")
    other = table(name)
    return other, other.row(int(number))


def before(row: Row) -> tuple[str, ...]:
    """The set on which the backbone of a row is trained before, if it begins with one."""
    return (row_named(row.pretrained)[1].data,) if row.pretrained else ()


def _recipe(name: str, values: Mapping[str, Any]) -> Recipe:
    choices = (Choice(option, chosen["is"], chosen["from"]) for option, chosen in values["choices"].items())
    return Recipe(name, values["about"], tuple(choices))


def _table(values: Mapping[str, Any]) -> Table:
    recipe, dataset = values.get("recipe", ""), values["dataset"]
    known = {name: value for name, value in values.items() if name not in ("recipe", "dataset", "rows", "notes")}
    return Table(
        **known,
        dataset=dataset if isinstance(dataset, str) else ", ".join(dataset),
        rows=tuple(Row(**{"recipe": recipe, **row}) for row in values["rows"]),
        notes=tuple(Note(**{**note, "rows": tuple(note.get("rows", ()))}) for note in values.get("notes", ())),
    )
