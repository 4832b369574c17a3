"""What ``filtersmith reproduce`` does and prints. Each function gives the exit code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filtersmith.common.options import bad_option
from filtersmith.common.words import plural
from filtersmith.lab.endings import DONE, FAILED
from filtersmith.lab.papers.published import COUNTED, TASKS, Table, table, tables
from filtersmith.lab.reproduce import ledger, show
from filtersmith.lab.reproduce.choose import ENOUGH_SEEDS, Chosen, by_value, chosen, missing, selected
from filtersmith.lab.reproduce.measured import Setting, measure
from filtersmith.lab.results.statistics import ENOUGH_PAIRS

if TYPE_CHECKING:
    from filtersmith.lab.reproduce.sets import Sets

RUNS, LEDGER = Path("runs/reproduce"), Path("results/ledger")
ALONE = ("cifar10",)
"""What ``--data`` stands for where all tables are asked for: other sets have other classes."""
QUEUE = 100
"""Missing runs that one call of ``--next`` takes up; another call takes the next ones."""


def list_tables(out: Path | None) -> int:
    """Print every table with its claim, and what was measured."""
    for line in show.listing(ledger.load(_ledger(out))):
        print(line)
    return DONE


def plan(name: str | None, *, rows: str | None, seeds: int, scale: float) -> int:
    """Print how long the rows of a table, or of all, would take on this machine, and what the others need."""
    from filtersmith.lab.reproduce import estimate

    several = name in (None, "all")
    if several and rows is not None:
        raise bad_option("rows", rows, "given with one table")
    of = list(tables()) if several else [table(str(name))]
    rate = estimate.throughput()
    print(
        f"{plural(seeds, 'seed')}, scale {scale:g}: an estimate from multiply-adds, at {rate / 1e9:,.0f} billion a "
        f"second ({estimate.MEASURED_ON} here, one run at a time); methods that cost more take longer"
    )
    total = 0.0
    for one in of:
        able = tuple(row.row for row in chosen(one.id, rows) if row.table is one) if rows else one.trained()
        work = estimate.of_table(one, able, scale, seeds)
        total += work
        parts = [f"{plural(len(able), 'row')}, {estimate.duration(work / rate)}"] if able else []
        print(f"{one.id}: {'; '.join([*parts, *_not_trained(one)])}")
        if not several:
            for line in show.recipes(one):
                print(line)
    if several:
        print(f"all: {estimate.duration(total / rate)}")
    return DONE


def _not_trained(one: Table) -> Iterator[str]:
    for need in dict.fromkeys(row.needs for row in one.rows if row.needs):
        yield f"{plural(sum(row.needs == need for row in one.rows), 'row')} wait for the task {need}: {TASKS[need]}"
    if rest := sum(not row.trained and not row.needs for row in one.rows):
        yield f"{plural(rest, 'row')} without a run (counted, cited, derived, a setting or a figure)"


@dataclass(frozen=True)
class Options:
    """Of a call that trains."""

    seeds: int
    scale: float
    data: str | None
    out: Path | None
    jobs: int
    time_limit: str | None
    precision: str | None
    compile: bool | None


def reproduce(name: str, rows: str | None, options: Options) -> int:
    """Run the rows of a table with so many seeds, and print what they say beside the paper."""
    of = table(name)
    wanted = selected(of, rows)
    if not any(row.trained for row in wanted) and any(row.kind in COUNTED for row in wanted):
        for line in show.counts(of, wanted):
            print(line)
        return DONE
    asked, sets = chosen(name, rows), _sets(options)
    failed = _train(asked, range(options.seeds), options, sets)
    entries = ledger.load(_ledger(options.out))
    shown = {row.n: row for row in (*wanted, *(one.row for one in asked if one.table is of))}
    on_data = _on(entries, asked, sets, options)
    for setting in dict.fromkeys(Setting(*entry.setting) for entry in on_data):
        found = measure(of, entries, setting, [shown[n] for n in sorted(shown)])
        print()
        for line in show.result(of, found, setting):
            print(line)
    if options.seeds < ENOUGH_PAIRS:
        print(f"{of.id}: with {plural(options.seeds, 'seed')} there is no interval; a verdict needs {ENOUGH_PAIRS}")
    return FAILED if failed else DONE


def next_runs(options: Options) -> int:
    """Run what is missing and worth most, until all is there or the time is over."""
    asked, seeds = list(by_value(_costs())), range(max(options.seeds, ENOUGH_SEEDS))
    failed = _train(asked, seeds, options, _sets(options, one_of_many=True), most=QUEUE)
    return FAILED if failed else DONE


def _costs() -> dict[str, float]:
    from filtersmith.lab.reproduce import estimate
    from filtersmith.lab.reproduce.arms import arm_of

    arms = [arm_of(row, one) for one in tables() for row in one.trained()]
    return {arm.key: estimate.whole_work(arm, 1) for arm in arms}


def _train(asked: Sequence[Chosen], seeds: range, options: Options, sets: Sets, *, most: int | None = None) -> int:
    """Train what the ledger does not have; gives how many runs failed."""
    from filtersmith.lab.console import make_console
    from filtersmith.lab.reproduce.run import Call, needed, run
    from filtersmith.lab.training.progress import Live
    from filtersmith.lab.training.stopping import read_deadline
    from filtersmith.zoo import importing

    importing.refresh()
    console = make_console()
    entries = ledger.load(_ledger(options.out))
    able = [one for one in asked if sets.identity(one.row.data) is not None]
    call = Call(
        sets.place,
        _ledger(options.out),
        options.scale,
        tuple(_ours(options).items()),
        options.jobs,
        read_deadline(options.time_limit),
    )
    lacking = list(missing(able, seeds, _on(entries, able, sets, options), options.scale))[:most]
    every = needed(lacking, call)
    if not every:
        console.print("nothing is missing: the ledger has every run", markup=False, highlight=False)
        return 0
    done = 0
    with Live(console, len(every)) as live:
        for _ in run(every, call, sets, live):
            done += 1
    return len(every) - done


def _sets(options: Options, *, one_of_many: bool = False) -> Sets:
    """The data of a call; one for rows of many sets leaves out those whose data is not there."""
    from filtersmith.lab.reproduce.plan import Place
    from filtersmith.lab.reproduce.sets import Sets

    place = Place(_runs(options.out), options.data, replaced=ALONE if one_of_many else None)
    return Sets(place, _left_out if one_of_many else None)


def _left_out(name: str, error: ValueError) -> None:
    print(f"left out: rows on {name}: {error}")


def _on(entries: Sequence[ledger.Entry], asked: Sequence[Chosen], sets: Sets, options: Options) -> list[ledger.Entry]:
    """The entries on the data, at the scale and with the precision of a call."""
    data = {(found.title, found.digest) for one in asked if (found := sets.identity(one.row.data)) is not None}
    precision = options.precision or "fp32"
    return [
        entry
        for entry in entries
        if (entry.data, entry.data_digest) in data and (entry.scale, entry.precision) == (options.scale, precision)
    ]


def _ours(options: Options) -> dict[str, object]:
    given = {"precision": options.precision, "compile": options.compile}
    return {name: value for name, value in given.items() if value is not None}


def _runs(out: Path | None) -> Path:
    return RUNS if out is None else out / "runs"


def _ledger(out: Path | None) -> Path:
    return LEDGER if out is None else out / "ledger"
