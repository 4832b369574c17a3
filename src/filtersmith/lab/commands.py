"""What the commands do and print, once their options are read. Each gives the exit code.

Nothing heavy is imported before a command needs it: most of them answer without torch.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filtersmith.common.words import plural
from filtersmith.lab.endings import DONE, FAILED
from filtersmith.lab.recipe.origin import about

if TYPE_CHECKING:
    from filtersmith.lab.recipe.config import CompareConfig, RunConfig

SHOWN_ZEROS = 0.005
"""From how many zeros on, as a fraction of the exported parameters, they are worth a word."""


def compare(config: CompareConfig, out: Path, *, dry_run: bool) -> int:
    """Train what is missing, print the table, write the page; of a dry run only say what would be done."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("compare runs in one process; `filtersmith train` runs in several")
    from rich.console import Console

    from filtersmith.lab import compare as comparing
    from filtersmith.lab.training.run import load_data

    with about("methods"):
        config = comparing.normalised(config)
    console = Console()
    with about("data.name"):
        loaded = load_data(config)
    if dry_run:
        _show_plan(console, config, loaded, out)
        return DONE
    from filtersmith.lab.results.report import write_report
    from filtersmith.lab.results.tables import build_table, to_terminal
    from filtersmith.lab.training.progress import Live

    planned = len(config.methods) * len(config.seeds)
    console.print(comparing.title(config, loaded), style="bold", markup=False, highlight=False)
    with Live(console, planned) as live:
        comparison = comparing.compare(config, out, loaded, live)
    page = write_report([comparison], out / "report.html")
    console.print()
    console.print(to_terminal([build_table(comparison)]))
    console.print()
    # Not through rich, which would fold a long path.
    print(f"Report: {page.resolve()}", flush=True)
    return FAILED if any(run.status == "failed" for run in comparison.runs) else DONE


def _show_plan(console: Any, config: CompareConfig, data: Any, out: Path) -> None:
    from filtersmith.lab import compare as comparing

    for warning in comparing.check_methods(config, data):
        console.print(warning, markup=False, highlight=False)
    console.print(comparing.title(config, data), style="bold", markup=False, highlight=False)
    steps = -(-len(data.train) // config.train.batch_size)
    console.print(
        f"{len(data.train):,} training and {len(data.test):,} test images of {data.image_size}x{data.image_size}, "
        f"{plural(data.num_classes, 'class', 'classes')}, {plural(steps, 'step')} per epoch",
        highlight=False,
    )
    for one in comparing.plan(config, out):
        state = "finished" if one.folder.finished() else "begun" if one.folder.exists() else "to do"
        console.print(f"  {one.arm}, seed {one.config.seed}: {state}", markup=False, highlight=False)
    console.print(f"Nothing was trained. The results would stand in {out}.", markup=False, highlight=False)


def train(config: RunConfig, out: Path, *, resume: bool) -> int:
    """Train one run and say where its network is; the main process alone prints."""
    from rich.console import Console

    from filtersmith.lab.recipe.arms import method_alone
    from filtersmith.lab.training import run as training
    from filtersmith.lab.training.progress import Live
    from filtersmith.methods.composition import compose

    with about("method"):
        config = config.model_copy(update={"method": str(compose(method_alone(config.method)))})
    with about("data.name"):
        loaded = training.load_data(config)
    main_process = int(os.environ.get("RANK", "0")) == 0
    console = Console(quiet=not main_process)
    label = f"{config.method}, seed {config.seed}"
    with Live(console, 1, every_epoch=True) as live:
        live.begin(label)
        result = training.train(config, out, loaded, resume=resume, progress=live)
    if main_process:
        console.print(
            f"{label}: test {result.epochs[-1].test_accuracy:.2%} after {plural(len(result.epochs), 'epoch')}",
            markup=False,
            highlight=False,
        )
        print(f"Deployed network: {(out / 'model.safetensors').resolve()}", flush=True)
    return DONE


def export(run: Path, format: str, out: Path | None, *, verbose: bool) -> int:
    """Write the deployed network of a run as one file, and say what was checked."""
    from filtersmith.lab.export import export
    from filtersmith.lab.results.numbers import size

    done = export(run, format, out, verbose=verbose)
    difference = f"relative difference {done.difference:.1e}" if done.difference else "no difference"
    facts = [plural(done.convolutions, "convolution")]
    if done.kernels < done.convolutions:
        facts[0] += f" on {plural(done.kernels, 'kernel')}"
    if done.zeros >= SHOWN_ZEROS:
        facts.append(f"{done.zeros:.0%} of the parameters are 0")
    print(f"{size(done.size)}: {', '.join(facts)}, {difference} ({done.reader})")
    # Last and alone, as it may be long.
    print(f"Wrote {done.path.resolve()}", flush=True)
    return DONE


def report(runs: Sequence[Path], out: Path | None, *, markdown: bool) -> int:
    """Print the tables of results; as Markdown alone, or for the terminal and with a page."""
    from rich.console import Console

    from filtersmith.lab.results.document import load
    from filtersmith.lab.results.report import write_report
    from filtersmith.lab.results.tables import build_table, legend, notes_to_markdown, to_markdown, to_terminal
    from filtersmith.lab.training.folder import make_folder

    comparisons = [load(path) for path in runs]
    tables = [build_table(comparison) for comparison in comparisons]
    if markdown:
        print("\n\n".join([*map(to_markdown, tables), "\n".join(notes_to_markdown(legend(tables)))]))
        return DONE
    console = Console()
    console.print(to_terminal(tables))
    console.print()
    first = runs[0]
    page = out or (first if first.is_dir() else first.parent) / "report.html"
    make_folder(page.parent)
    print(f"Report: {write_report(comparisons, page).resolve()}", flush=True)
    return DONE


def list_(what: str) -> int:
    """Print one of the lists."""
    from rich.console import Console

    from filtersmith.lab.listing import LISTS

    Console().print(LISTS[what](), markup=False, highlight=False)
    return DONE


def describe(method: str) -> int:
    """Print the card of a method, and its options as they are written on the command line."""
    from rich.console import Console

    from filtersmith.common.options import unknown_name
    from filtersmith.lab.listing import card
    from filtersmith.methods import BASELINE, METHODS
    from filtersmith.methods.spelling import option_names

    if method == BASELINE:
        print("baseline: plain training with the recipe's optimizer; what every method is compared with.")
        return DONE
    if method not in METHODS:
        raise unknown_name("method", method, [BASELINE, *METHODS])
    record = METHODS[method]
    options = f"Options on the command line: {', '.join(option_names(method)) or 'none'}"
    print(card(f"{record.card}\n\n{options}", Console().width))
    return DONE
