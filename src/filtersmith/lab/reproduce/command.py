"""What ``filtersmith reproduce`` does and prints. Each function gives the exit code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from filtersmith.common.options import bad_option
from filtersmith.common.words import plural
from filtersmith.lab.endings import DONE, FAILED
from filtersmith.lab.papers.published import COUNTED, Table, before, table, tables
from filtersmith.lab.papers.sets import SETS, needed
from filtersmith.lab.reproduce import ledger, page, show
from filtersmith.lab.reproduce.arms import Arm, alike, arm_of
from filtersmith.lab.reproduce.choose import Chosen, by_value, chosen, missing, selected
from filtersmith.lab.reproduce.instead import DOWNLOADED, read_instead
from filtersmith.lab.reproduce.measured import Measured, Setting, measure
from filtersmith.lab.results.document import write_atomically
from filtersmith.lab.results.page import need_extra
from filtersmith.lab.results.statistics import ENOUGH_PAIRS

if TYPE_CHECKING:
    from filtersmith.lab.reproduce.plan import Job
    from filtersmith.lab.reproduce.sets import Sets
    from filtersmith.lab.training.stopping import Deadline

RUNS, LEDGER = Path("runs/reproduce"), Path("results/ledger")
PAGES = "pages"
"""Folder of the pages, beside the runs."""
ALONE = ("cifar10",)
"""What ``--data`` stands for where all tables are asked for: other sets have other classes."""
QUEUE = 100
"""Missing runs that one call of ``--next`` takes up; another call takes the next ones."""


def list_tables(out: Path | None) -> int:
    """Print every table with its claim, and what was measured."""
    for line in show.listing(ledger.load(_ledger(out))):
        print(line)
    return DONE


def plan(name: str | None, rows: str | None, options: Options) -> int:
    """Print how long the rows of a table, or of all, would take on this machine, and what the others need."""
    from filtersmith.lab.reproduce import estimate
    from filtersmith.lab.reproduce.plan import needed as jobs_of

    several = name in (None, "all")
    if several and rows is not None:
        raise bad_option("rows", rows, "given with one table")
    of = list(tables()) if several else [table(str(name))]
    place = _sets(options, None if several else of[0]).place
    asked = {one.id: _able(one, rows, options.scale) for one in of}
    rate = estimate.throughput()
    print(
        f"{plural(options.seeds, 'seed')}, scale {options.scale:g}: an estimate from multiply-adds, at "
        f"{rate / 1e9:,.0f} billion a second ({estimate.MEASURED_ON} here, one run at a time); methods that cost "
        "more take longer"
    )
    every: dict[tuple[str, int], Job] = {}
    for one in of:
        runs = ((_arm(row, options), seed) for row in asked[one.id] for seed in range(options.seeds))
        found = jobs_of(runs, place)
        every |= {(job.arm.key, job.seed): job for job in found}
        time = estimate.duration(estimate.of_jobs(found, place) / rate)
        parts = [f"{plural(len(asked[one.id]), 'row')}, {time}"] if found else []
        print(f"{one.id}: {'; '.join([*parts, *_not_trained(one), *_own_copies(one)])}")
        if not several:
            for line in show.recipes(one):
                print(line)
    if several:
        print(
            f"all: {estimate.duration(estimate.of_jobs(every.values(), place) / rate)}; what tables share counts once"
        )
    return DONE


def _able(of: Table, rows: str | None, scale: float) -> list[Chosen]:
    """The rows of a table that would be trained."""
    return [one for one in chosen(of.id, rows) if not alike(one.row, one.table, scale)] if of.trained() else []


def _arm(one: Chosen, options: Options) -> Arm:
    return arm_of(one.row, one.table, options.scale, **_ours(options))


def _not_trained(one: Table) -> Iterator[str]:
    if rest := sum(not row.trained for row in one.rows):
        yield f"{plural(rest, 'row')} without a run (counted, cited, derived, a setting or a figure)"


def _own_copies(one: Table) -> Iterator[str]:
    yield from (f"needs {needed(name)}" for name in one.own_copies())


@dataclass(frozen=True)
class Options:
    """Of a call that trains, or says what it would take."""

    seeds: int
    scale: float
    data: str | None
    out: Path | None
    jobs: int
    deadline: Deadline | None
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
    asked, sets = chosen(name, rows), _sets(options, of)
    failed = _train(asked, range(options.seeds), options, sets)
    entries = ledger.load(_ledger(options.out))
    shown = {row.n: row for row in (*wanted, *(one.row for one in asked if one.table is of))}
    on_data = _on(entries, asked, sets, options)
    found: dict[Setting, list[Measured]] = {}
    for setting in dict.fromkeys(Setting(*entry.setting) for entry in on_data):
        found[setting] = measure(of, entries, setting, [shown[n] for n in sorted(shown)])
        print()
        for line in show.result(of, found[setting], setting):
            print(line)
    if options.seeds < ENOUGH_PAIRS:
        print(f"{of.id}: with {plural(options.seeds, 'seed')} there is no interval; a verdict needs {ENOUGH_PAIRS}")
    if found:
        _write_page(of, found, _runs(options.out) / PAGES)
    return FAILED if failed else DONE


def _write_page(of: Table, found: Mapping[Setting, Sequence[Measured]], folder: Path) -> None:
    """Write what was printed as a page, and say where it is; or why there is none."""
    try:
        need_extra()
    except ValueError as error:
        print(f"No page: {error}")
        return
    written = write_atomically(folder / page.file_name(of), page.render(of, found))
    print(f"Page: {written.resolve()}", flush=True)


def next_runs(options: Options) -> int:
    """Run what is missing and worth most, until all is there or the time is over."""
    asked, seeds = list(by_value(_costs())), range(options.seeds)
    failed = _train(asked, seeds, options, _sets(options, None), most=QUEUE)
    return FAILED if failed else DONE


def _costs() -> dict[str, float]:
    from filtersmith.lab.reproduce import estimate
    from filtersmith.lab.reproduce.plan import Place, jobs

    place = Place(RUNS)
    arms = [arm_of(row, one) for one in tables() for row in one.trained()]
    return {arm.key: estimate.of_jobs(jobs(arm, 0, place), place) for arm in arms}


def _train(asked: Sequence[Chosen], seeds: range, options: Options, sets: Sets, *, most: int | None = None) -> int:
    """Train what the ledger does not have; gives how many runs failed."""
    from filtersmith.lab.console import make_console
    from filtersmith.lab.reproduce.plan import needed as jobs_of
    from filtersmith.lab.reproduce.run import Call, check, run
    from filtersmith.lab.training.progress import Live
    from filtersmith.zoo import importing

    importing.refresh()
    console = make_console()
    say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    entries = ledger.load(_ledger(options.out))
    able = [one for one in asked if sets.identity_of(_as_run(one, sets, options)) is not None]
    for line in _reduced(able, sets, options):
        say(line)
    call = Call(sets.place, _ledger(options.out), options.scale, options.jobs, options.deadline)
    able = _told_apart(able, options.scale, say)
    lacking = list(missing(able, seeds, _on(entries, able, sets, options), options.scale))
    every: list[Job] = []
    for start in range(0, len(lacking), most or len(lacking) or 1):
        queue = lacking[start : start + most] if most else lacking
        runs = ((_arm(one, options), seed) for one, seed in queue)
        every = check(jobs_of(runs, call.place), sets, options.scale, say, leave_out=most is not None)
        if every:  # otherwise nothing of the most valuable ones fits
            break
    if not every:
        say("nothing is missing: the ledger has every run" if not lacking else "nothing that fits is missing")
        return 0
    done = 0
    with Live(console, len(every)) as live:
        for _ in run(every, call, sets, live):
            done += 1
    return len(every) - done


def _told_apart(asked: Sequence[Chosen], scale: float, say: Callable[[str], None]) -> list[Chosen]:
    """The rows that at a scale are other runs than those that they are compared with in their tables."""
    found = []
    for one in asked:
        if others := alike(one.row, one.table, scale):
            named = ", ".join(map(str, others))
            say(f"left out: {one.table.id} {one.row.n}: too short at scale {scale:g} to be told from row {named}")
        else:
            found.append(one)
    return found


def _as_run(one: Chosen, sets: Sets, options: Options) -> Arm:
    return sets.place.as_run(_arm(one, options))


def _reduced(asked: Sequence[Chosen], sets: Sets, options: Options) -> Iterator[str]:
    """A line for each table whose networks begin without the backbones that the paper's have."""
    gone = {
        (one.table.id, name): None for one in asked if _as_run(one, sets, options).scratch for name in before(one.row)
    }
    for table_id, name in gone:
        yield f"{table_id}: from scratch; the paper's backbones are trained before: that needs {needed(name)}"


def _sets(options: Options, of: Table | None) -> Sets:
    """The data of a call; one for all tables leaves out rows whose data is not there."""
    from filtersmith.lab.reproduce.plan import Place
    from filtersmith.lab.reproduce.sets import Sets

    if of is None:
        return Sets(Place(_runs(options.out), read_instead(options.data, ALONE)), _left_out)
    return Sets(Place(_runs(options.out), read_instead(options.data, *_of_table(of))))


def _of_table(of: Table) -> tuple[list[str], list[str]]:
    """The sets of a table that data without a name stands for, all but those of backbones; and all that it has."""
    own = [name for name in dict.fromkeys(row.data for row in of.trained()) if SETS[name].form]
    stands_for = own or list(DOWNLOADED)
    return stands_for, list(dict.fromkeys([*stands_for, *(name for row in of.trained() for name in before(row))]))


def _left_out(name: str, error: ValueError) -> None:
    print(f"left out: rows on {name}: {error}")


def _on(entries: Sequence[ledger.Entry], asked: Sequence[Chosen], sets: Sets, options: Options) -> list[ledger.Entry]:
    """The entries on the data, at the scale and with the precision of a call."""
    identities = (sets.identity_of(_as_run(one, sets, options)) for one in asked)
    data = {(found.title, found.digest) for found in identities if found is not None}
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
