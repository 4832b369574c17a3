"""What the commands do and print, once their options are read. Each gives the exit code.

Nothing heavy is imported before a command needs it: most of them answer without torch.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filtersmith.common.options import bad_option
from filtersmith.common.words import plural
from filtersmith.lab.endings import DONE, FAILED
from filtersmith.lab.recipe.origin import about

if TYPE_CHECKING:
    from filtersmith.lab.audit.options import Options
    from filtersmith.lab.jobs.cluster import Cluster
    from filtersmith.lab.recipe.config import CompareConfig, RunConfig
    from filtersmith.lab.training.stopping import Deadline

SHOWN_ZEROS = 0.005
"""From how many zeros on, as a fraction of the exported parameters, they are worth a word."""


def rows_of(methods: str | None, pairs: str | None) -> list[str] | None:
    """The rows that ``--methods`` or ``--all-pairs`` asks for; ``None`` where neither does."""
    from filtersmith.lab.recipe.arms import split_arms

    if pairs is None:
        return None if methods is None else split_arms(methods)
    if methods is not None:
        raise ValueError(f"--all-pairs {pairs} stands in place of --methods {methods}: leave one of them out")
    from filtersmith.lab.pairs import all_pairs

    with about("all_pairs"):
        return all_pairs(split_arms(pairs))[0]


@dataclass(frozen=True)
class Means:
    """With what a comparison is made: so many runs at a time, here or on a cluster, until when."""

    jobs: int = 1
    cluster: Cluster | None = None
    deadline: Deadline | None = None


def means(
    jobs: str | None,
    time_limit: str | None,
    engine: str,
    cpus_per_run: str | None,
    gpus_per_run: str | None,
    ray_address: str | None,
) -> Means:
    """The options of ``filtersmith compare`` that no result depends on."""
    from filtersmith.lab.jobs.cluster import read_cluster
    from filtersmith.lab.jobs.shares import read_jobs
    from filtersmith.lab.training.stopping import read_deadline

    at_a_time = read_jobs("1" if jobs is None else jobs)
    cluster = read_cluster(engine, jobs=jobs, cpus=cpus_per_run, gpus=gpus_per_run, address=ray_address)
    return Means(at_a_time, cluster, read_deadline(time_limit))


def compare(config: CompareConfig, out: Path, means: Means, *, dry_run: bool, pairs: bool = False) -> int:
    """Train what is missing, print the table, write the page; of a dry run only say what would be done."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("compare runs in one process; `filtersmith train` runs in several")
    from filtersmith.lab import compare as comparing
    from filtersmith.lab.console import make_console
    from filtersmith.lab.plan import show_comparison
    from filtersmith.lab.training.run import load_data
    from filtersmith.zoo import importing

    importing.refresh()
    with about("all_pairs" if pairs else "methods"):
        config = comparing.normalised(config)
    config, _ = comparing.with_earlier(config, out)
    console = make_console()
    with about("data.name"):
        loaded = load_data(config)
    refused: dict[str, str] = {}
    if pairs:
        from filtersmith.lab.pairs import without_refused

        config, refused = without_refused(config, loaded)
        for pair, reason in refused.items():
            console.print(f"not together: {pair}: {reason}", markup=False, highlight=False)
        config, _ = comparing.with_earlier(comparing.normalised(config), out)
    if dry_run:
        show_comparison(console, config, loaded, out)
        return DONE
    from filtersmith.lab.results.report import write_report
    from filtersmith.lab.results.shown import load as load_shown
    from filtersmith.lab.results.tables import build_table
    from filtersmith.lab.results.terminal import to_terminal
    from filtersmith.lab.training.progress import Live

    planned = len(comparing.plan(config, out))
    console.print(comparing.title(config, loaded), style="bold", markup=False, highlight=False)
    with Live(console, planned) as live:
        comparison = comparing.compare(config, out, loaded, live, **vars(means), not_together=refused)
    page = write_report([comparison], out / "report.html", [load_shown(out)])
    console.print()
    console.print(to_terminal([build_table(comparison)]))
    console.print()
    # Not through rich, which would fold a long path.
    print(f"Report: {page.resolve()}", flush=True)
    asked = [run for run in comparison.runs if run.method in comparing.rows(config) and run.seed in config.seeds]
    return FAILED if any(run.status == "failed" for run in asked) else DONE


def begun(weights: str | None, backbone: str | None) -> str | None:
    """The file of weights that a network begins with: one that is named, or that of a finished run."""
    if backbone is None:
        return weights
    if weights is not None:
        raise ValueError(f"--backbone {backbone} beside --weights {weights}: leave one of them out")
    from filtersmith.lab.deployed import finished_run

    with about("backbone"):
        return str(finished_run(Path(backbone)).model)


def recipe_options(
    task: str | None,
    data: str | None,
    model: str | None,
    weights: str | None,
    epochs: str | None,
    precision: str | None,
    compile: bool | None,
    channels_last: bool | None,
) -> dict[str, Any]:
    """Options of the command line by their names in a recipe."""
    return {
        "task": task,
        "data.name": data,
        "model.name": model,
        "model.weights": weights,
        "train.epochs": epochs,
        "train.precision": precision,
        "train.compile": compile,
        "train.channels_last": channels_last,
    }


@dataclass(frozen=True)
class Reproduction:
    """The options of ``filtersmith reproduce`` as they were typed, and what they are where they were not."""

    seeds: str = "5"
    scale: str = "1"
    data: str | None = None
    out: Path | None = None
    jobs: str = "1"
    time_limit: str | None = None
    precision: str | None = None
    compile: bool | None = None


def reproduce(table: str | None, rows: str | None, typed: Reproduction, *, plan: bool, next: bool) -> int:
    """List the papers' tables, say what they would take, or run some of their rows."""
    from filtersmith.lab.jobs.shares import read_jobs
    from filtersmith.lab.reproduce import command
    from filtersmith.lab.reproduce.arms import check_scale
    from filtersmith.lab.training.stopping import read_deadline

    if next and (table is not None or rows is not None or plan):
        raise ValueError("--next runs what is missing of all tables: leave out TABLE, --rows and --plan")
    seeds, scale, jobs = read_seeds(typed.seeds), check_scale(typed.scale), read_jobs(typed.jobs)
    options = command.Options(
        seeds, scale, typed.data, typed.out, jobs, read_deadline(typed.time_limit), typed.precision, typed.compile
    )
    if plan:
        return command.plan(table, rows, options)
    if next:
        return command.next_runs(options)
    if table is None:
        listed = replace(Reproduction(), out=typed.out)
        given: dict[str, object] = {"rows": rows} if rows is not None else {}
        given |= {name: value for name, value in vars(typed).items() if value != vars(listed)[name]}
        for name, value in given.items():
            option = f"--{name.replace('_', '-')}" + ("" if value is True else f" {value}")
            raise ValueError(f"{option} needs a TABLE; without one all tables are listed")
        return command.list_tables(typed.out)
    return command.reproduce(table, rows, options)


def read_seeds(text: str) -> int:
    """What ``--seeds`` says: so many, from 0."""
    if not re.fullmatch("[1-9][0-9]{0,3}", text):
        raise bad_option("seeds", text, "a whole number from 1 to 9999")
    return int(text)


def train(config: RunConfig, out: Path, *, resume: bool, deadline: Deadline | None, dry_run: bool) -> int:
    """Train one run and say where its network is; the main process alone prints."""
    from filtersmith.lab.console import make_console
    from filtersmith.lab.data.describe import noted
    from filtersmith.lab.generations import lacks_teacher
    from filtersmith.lab.plan import show_run
    from filtersmith.lab.recipe.arms import method_alone
    from filtersmith.lab.teachers.names import FORMS, unread
    from filtersmith.lab.training import run as training
    from filtersmith.lab.training.progress import Live
    from filtersmith.lab.training.stopping import StopRequest
    from filtersmith.methods.composition import compose
    from filtersmith.zoo import importing

    importing.refresh()
    with about("method"):
        if lacks_teacher(method_alone(config.method)):
            raise bad_option("teacher", None, FORMS)
        config = config.model_copy(update={"method": str(compose(method_alone(config.method), resolve=unread))})
    with about("data.name"):
        loaded = training.load_data(config)
    main_process = int(os.environ.get("RANK", "0")) == 0
    console = make_console(quiet=not main_process)
    if dry_run:
        show_run(console, config, loaded, out, resume=resume)
        return DONE
    label = f"{config.method}, seed {config.seed}"
    with Live(console, 1, every_epoch=True) as live, StopRequest(deadline) as stop:
        for note in noted(loaded):
            live.note(note)
        live.begin(label)
        result = training.train(config, out, loaded, resume=resume, progress=live, stop=stop)
    if main_process:
        console.print(
            f"{label}: test {result.epochs[-1].test_accuracy:.2%} after {plural(len(result.epochs), 'epoch')}",
            markup=False,
            highlight=False,
        )
        print(f"Deployed network: {(out / 'model.safetensors').resolve()}", flush=True)
    return DONE


def export(run: Path, format: str, out: Path | None, *, verbose: bool) -> int:
    """Write the deployed network of a run as one file, or as a folder for the hub, and say what was checked."""
    from filtersmith.lab.export import export
    from filtersmith.lab.hub.write import export_folder
    from filtersmith.lab.results.numbers import size
    from filtersmith.zoo import importing

    importing.refresh()
    done = export_folder(run, out, verbose=verbose) if format == "hub" else export(run, format, out, verbose=verbose)
    difference = f"relative difference {done.difference:.1e}" if done.difference else "no difference"
    facts = [plural(done.convolutions, "convolution")]
    if done.kernels < done.convolutions:
        facts[0] += f" on {plural(done.kernels, 'kernel')}"
    if done.zeros >= SHOWN_ZEROS:
        facts.append(f"{done.zeros:.0%} of the parameters are 0")
    if done.changed:
        print(f"warning: {', '.join(done.changed)} changed since the run, whose weights are in it now")
    print(f"{size(done.size)}: {', '.join(facts)}, {difference} ({done.reader})")
    # Last and alone, as it may be long.
    print(f"Wrote {done.path.resolve()}", flush=True)
    return DONE


def report(runs: Sequence[Path], out: Path | None, format: str) -> int:
    """Print the tables of results: for the terminal, with a page, or alone in a format that other programs read."""
    from filtersmith.lab.results import markdown, rows
    from filtersmith.lab.results.document import load
    from filtersmith.lab.results.tables import build_table

    if format != "text" and out is not None:
        raise ValueError(f"--out {out} needs --format text, which writes a page; --format {format} only prints")
    comparisons = [load(path) for path in runs]
    if format != "text":
        writers = {"markdown": markdown.whole, "csv": rows.to_csv, "json": rows.to_json}
        print(writers[format](comparisons), end="")
        return DONE
    from filtersmith.lab.console import make_console
    from filtersmith.lab.results.report import write_report
    from filtersmith.lab.results.shown import load as load_shown
    from filtersmith.lab.results.terminal import to_terminal
    from filtersmith.lab.training.folder import make_folder

    console = make_console()
    console.print(to_terminal([build_table(comparison) for comparison in comparisons]))
    console.print()
    first = runs[0]
    page = out or (first if first.is_dir() else first.parent) / "report.html"
    make_folder(page.parent)
    written = write_report(comparisons, page, [load_shown(path) for path in runs])
    print(f"Report: {written.resolve()}", flush=True)
    return DONE


def audit(options: Options) -> int:
    """Show what the filters of a network are doing."""
    from filtersmith.lab.audit import command

    if options.against_weights is not None and options.against is None:
        raise bad_option("against-weights", options.against_weights, "given with --against")
    return command.run(options)


def count(name: str, text: str) -> int:
    """A whole number as it was typed; ``ValueError`` for anything else."""
    if not re.fullmatch("0|[1-9][0-9]{0,6}", text):
        raise bad_option(name, text, "a whole number")
    return int(text)


def list_(what: str) -> int:
    """Print one of the lists."""
    from filtersmith.lab.console import make_console
    from filtersmith.lab.listing import LISTS

    make_console().print(LISTS[what](), markup=False, highlight=False)
    return DONE


def describe(method: str) -> int:
    """Print the card of a method, and its options as they are written on the command line."""
    from rich.console import Console

    from filtersmith.lab import cards

    print(cards.describe(method, Console().width))
    return DONE
