"""What the ledger says of the rows of a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from filtersmith.lab.papers.published import Row, Table, compared_with, recipe_of
from filtersmith.lab.papers.sets import SETS
from filtersmith.lab.reproduce.arms import alike, keys_of
from filtersmith.lab.reproduce.ledger import Entry, found
from filtersmith.lab.reproduce.verdict import SAME_IMAGES, Verdict, same_data, verdict
from filtersmith.lab.results.statistics import Difference, Spread, holm, paired_difference, spread

TITLES = {name: one.title for name, one in SETS.items()} | {"digits": "digits"}
"""How the papers' data sets are called."""


@dataclass(frozen=True)
class Setting:
    """What all runs of a table have in common: the data, the share of the schedule, the precision."""

    data: str
    data_digest: str
    scale: float = 1.0
    precision: str = "fp32"

    @property
    def words(self) -> str:
        """For titles."""
        parts = [self.data, "full schedule" if self.scale == 1 else f"{self.scale:g} of the schedule"]
        return " · ".join(parts + ([self.precision] if self.precision != "fp32" else []))


@dataclass(frozen=True)
class Measured:
    """A row and what was measured of it. Accuracies and differences are fractions; better is above 0.

    Attributes:
        row: of the table.
        last: after the last epoch, or that of the row's phase; ``None`` without a run.
        best: of the best test epochs.
        seeds: of the runs.
        difference: to the row that it is compared with, paired by seed: of the last epochs, or of the best ones where
            the paper's rows are those.
        published: the paper's difference; ``None`` where there is none.
        verdict: on it; ``None`` where the paper has no difference.
        hardware: on what it was run.
        alike: other rows that it cannot be told from at this scale, so that it is not measured.
        paired: seeds of the difference, in the order of its values.
        runs: of the row, by seed.
    """

    row: Row
    last: Spread | None = None
    best: Spread | None = None
    seeds: tuple[int, ...] = ()
    difference: Difference | None = None
    published: float | None = None
    verdict: Verdict | None = None
    hardware: tuple[str, ...] = ()
    alike: tuple[int, ...] = ()
    paired: tuple[int, ...] = ()
    runs: tuple[Entry, ...] = ()


def settings(table: Table, entries: Iterable[Entry]) -> list[Setting]:
    """The settings in which rows of a table were run; the longest schedule first."""
    every = [entry for entry in entries if entry.current]
    keys: dict[tuple[float, str], set[str]] = {}
    seen: dict[Setting, None] = {}
    for entry in every:
        schedule = entry.scale, entry.precision
        if schedule not in keys:
            keys[schedule] = {key for row in table.trained() for key in keys_of(row, table, entry.scale)}
        if entry.key in keys[schedule]:
            seen[Setting(*entry.setting)] = None
    return sorted(seen, key=lambda one: (-one.scale, one.data, one.precision))


def measure(
    table: Table, entries: Iterable[Entry], setting: Setting, rows: Sequence[Row] | None = None
) -> list[Measured]:
    """What was measured of the rows of a table, or of some of them, in a setting.

    Rows that the paper has on another data set than the setting's are left out, unless they were run on it.
    """
    mine = [entry for entry in entries if Setting(*entry.setting) == setting]
    every = _corrected([_measure(row, table, mine, setting) for row in (table.rows if rows is None else rows)])
    papers = SAME_IMAGES.get(setting.data, setting.data) in (set(TITLES.values()) - {"digits"})
    return [
        one
        for one in every
        if one.seeds or not papers or not one.row.data or same_data(setting.data, TITLES.get(one.row.data, ""))
    ]


def _corrected(found: list[Measured]) -> list[Measured]:
    """With Holm's correction over the differences of the table."""
    tested = [one.difference.p for one in found if one.difference is not None and one.difference.p is not None]
    corrected = iter(holm(*tested))
    return [
        one
        if one.difference is None or one.difference.p is None
        else replace(one, difference=replace(one.difference, p_holm=next(corrected)))
        for one in found
    ]


def _measure(row: Row, table: Table, entries: Sequence[Entry], setting: Setting) -> Measured:
    other = compared_with(row, table)
    published = None if other is None else published_difference(row, other[1], table)
    if not row.trained:
        return Measured(row, published=published)
    if others := alike(row, table, setting.scale):
        return Measured(row, published=published, alike=others)
    runs = _runs(row, table, entries, setting)
    last = {seed: accuracy(entry, row) for seed, entry in runs.items()}
    best = [_best(entry, row) for entry in runs.values()]
    difference = said = None
    paired: list[int] = []
    if other is not None and other[1].trained:
        base = _runs(other[1], other[0], entries, setting)
        paired = sorted({*runs} & {*base})
        own = [_compared(runs[seed], row) for seed in paired]
        difference = paired_difference(own, [_compared(base[seed], other[1]) for seed in paired])
    if published is not None and row.trained:
        theirs = TITLES.get(row.data, row.data)
        said = verdict(difference, published, same_data=same_data(setting.data, theirs))
    return Measured(
        row,
        spread([last[seed] for seed in sorted(last)]),
        spread(best),
        tuple(sorted(last)),
        difference,
        published,
        said,
        tuple(sorted({entry.hardware for entry in runs.values()})),
        paired=tuple(paired),
        runs=tuple(runs[seed] for seed in sorted(runs)),
    )


def published_difference(row: Row, other: Row, table: Table) -> float | None:
    """The paper's difference between two rows as a fraction, better above 0; ``None`` where a number is missing.

    Of accuracy that is lost the row itself is the difference.
    """
    if row.value is None:
        return None
    if is_drop(row):
        return -row.value / 100
    if other.value is None:
        return None
    return (other.value - row.value if is_error(row, table) else row.value - other.value) / 100


def is_error(row: Row, table: Table) -> bool:
    """Whether the paper's number is an error: smaller is better."""
    return table.of_errors or "error" in row.metric


def is_drop(row: Row) -> bool:
    """Whether the paper's number is the accuracy that is lost to the row that it is compared with."""
    return "drop" in row.metric


def _runs(row: Row, table: Table, entries: Sequence[Entry], setting: Setting) -> dict[int, Entry]:
    """The runs of a row by seed; those too short for all phases of their flow, or all cycles, are none of the row."""
    every = [one for one in entries if not row.score or row.score in one.scores]
    runs = {seed: one for key in keys_of(row, table, setting.scale) for seed, one in found(every, key).items()}
    if row.phase is not None:
        phases = recipe_of(row, table).option("phases", 1)
        return {seed: entry for seed, entry in runs.items() if len(entry.phase_starts) + 1 == phases}
    if row.cycle is not None:
        cycles = recipe_of(row, table).option("cycles", 1)
        return {seed: entry for seed, entry in runs.items() if len(entry.sub_phases) == cycles}
    return runs


def _end(entry: Entry, row: Row) -> int:
    """After how many epochs a row is measured: at the end, or at that of a phase or cycle."""
    starts = entry.phase_starts
    if row.cycle is not None and row.cycle < len(entry.sub_phases):
        return entry.sub_phases[row.cycle][0]  # where the next cycle leaves filters out
    return starts[row.phase - 1] if row.phase is not None and row.phase <= len(starts) else len(entry.test_accuracy)


def _begin(entry: Entry, row: Row) -> int:
    """After how many epochs a row's part of a run begins; that of a cycle when its filters are back."""
    if row.cycle is not None:
        return entry.sub_phases[row.cycle - 1][1]
    return entry.phase_starts[row.phase - 2] if row.phase is not None and row.phase > 1 else 0


def over_epochs_of(entry: Entry, row: Row) -> tuple[float, ...]:
    """The score that a row is about, after each epoch of a run: its accuracy, unless the row names another one."""
    return entry.scores[row.score] if row.score else entry.test_accuracy


def accuracy(entry: Entry, row: Row) -> float:
    """Test accuracy, or another score, after the last epoch of a row's part of a run."""
    return over_epochs_of(entry, row)[_end(entry, row) - 1]


def _compared(entry: Entry, row: Row) -> float:
    """What is compared: the last epoch, or the best one where the paper's rows are those."""
    return _best(entry, row) if row.reported == "best" else accuracy(entry, row)


def _best(entry: Entry, row: Row) -> float:
    """The highest test accuracy of a row's part of a run."""
    return max(over_epochs_of(entry, row)[_begin(entry, row) : _end(entry, row)])


@cache
def counted(row: Row, table: Table) -> float | None:
    """A number that follows from the network alone, in the table's unit; ``None`` of other rows."""
    if row.kind not in ("parameters", "time"):
        return None
    from filtersmith import zoo

    classes = SETS[row.data].classes
    if row.kind == "time":
        return zoo.multiply_adds(row.network, classes) / zoo.multiply_adds("vanilla", classes)
    own = zoo.parameter_count(row.network, classes)
    if row.share_of:
        return 100 * (1 - own / zoo.parameter_count(row.share_of, classes))
    if row.over:
        own -= zoo.parameter_count(row.over, classes)
    if "without last FC" in row.method:
        own -= _classifier(row.network, classes)
    return own / _UNITS[next(word for word in _UNITS if word in row.metric)]


_UNITS: Mapping[str, float] = {"thousands": 1e3, "millions": 1e6, "(K)": 1024, "(M)": 1e6}


def _classifier(network: str, classes: int) -> int:
    """Parameters of the last linear layer."""
    import torch
    from torch import nn

    from filtersmith import zoo

    with torch.device("meta"):
        model: Any = zoo.build(network, classes)
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    return sum(parameter.numel() for parameter in last.parameters())
