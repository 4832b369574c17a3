"""The command ``filtersmith``: compare, train, export, report, list, describe.

Every error is one line on stderr. Exit codes: 0 well, 1 a run failed, 2 a wrong input, 75 stopped by --time-limit,
130 or 143 by Ctrl-C or SIGTERM, with a checkpoint written.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

try:
    import typer
    from rich.console import Console
except ModuleNotFoundError as error:  # the core alone is installed
    sys.exit(f'filtersmith: error: the command line needs {error.name}: pip install "filtersmith[train]"')

SHOWN_ZEROS = 0.005
"""From how many zeros on, as a fraction of the exported parameters, they are worth a word."""

app = typer.Typer(
    name="filtersmith",
    help="Training methods that make the filters of a ConvNet work harder, compared honestly.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

_debug = False


def _set_debug(value: bool) -> None:
    global _debug
    _debug = _debug or value


Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", callback=_set_debug)]
DataName = Annotated[str | None, typer.Option("--data", help="digits, cifar10, ..., hf:PATH; see `list data`.")]
ModelName = Annotated[
    str | None, typer.Option("--model", help="vanilla, resnet20, timm:NAME, ...; see `list models`.")
]
# Numbers are texts here: the configuration checks them, and says more about it than typer.
Epochs = Annotated[str | None, typer.Option("--epochs", metavar="NUMBER", help="All epochs of a run.")]
Precision = Annotated[Literal["fp32", "bf16", "fp16"] | None, typer.Option("--precision", help="Autocast precision.")]
Compile = Annotated[bool | None, typer.Option("--compile/--no-compile", help="torch.compile the network.")]
RecipeFile = Annotated[str | None, typer.Option("--recipe", help="A YAML file, or one of `list recipes`.")]
Assignments = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any option, e.g. train.lr=0.05.")
]
TimeLimit = Annotated[
    str | None,
    typer.Option("--time-limit", metavar="TIME", help="Stop in time: 90s, 12m, 1h30m (exit code 75)."),
]
PrintConfig = Annotated[bool, typer.Option("--print-config", help="Print the whole configuration and stop.")]


@app.command(short_help="Train methods with several seeds and print what each is worth.")
def compare(
    data: DataName = None,
    model: ModelName = None,
    methods: Annotated[
        str | None,
        typer.Option(help='Separated by commas: baseline,wau,"wau(rate=0.3)"; METHOD@NETWORK: on another network.'),
    ] = None,
    seeds: Annotated[str | None, typer.Option(metavar="NUMBER", help="Number of seeds, from 0.")] = None,
    epochs: Epochs = None,
    precision: Precision = None,
    compile: Compile = None,
    recipe: RecipeFile = None,
    assignments: Assignments = None,
    out: Annotated[Path, typer.Option(help="Folder of the results; finished runs in it are not repeated.")] = Path(
        "runs/compare"
    ),
    jobs: Annotated[str, typer.Option(metavar="NUMBER", help="Runs that are trained at a time.")] = "1",
    time_limit: TimeLimit = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and show the plan.")] = False,
    print_config: PrintConfig = False,
    debug: Debug = False,
) -> None:
    """Train several methods with several seeds and print what each is worth."""
    from filtersmith.lab.jobs.shares import read_jobs
    from filtersmith.lab.recipe import config as configs
    from filtersmith.lab.recipe.arms import split_arms
    from filtersmith.lab.training.stopping import read_deadline

    at_a_time, deadline = read_jobs(jobs), read_deadline(time_limit)
    options = {
        **_recipe_options(data, model, epochs, precision, compile),
        "methods": None if methods is None else split_arms(methods),
        "seeds": seeds,
    }
    config = configs.merge(configs.CompareConfig, recipe=recipe, options=options, assignments=assignments or ())
    if print_config:
        print(configs.to_yaml(config), end="")
        return
    _compare(config, out, dry_run, at_a_time, deadline)


@app.command(short_help="Train one network with one method.")
def train(
    data: DataName = None,
    model: ModelName = None,
    method: Annotated[
        str | None, typer.Option(help='baseline, wau, "wau(rate=0.5)", ...; see `list methods`.')
    ] = None,
    epochs: Epochs = None,
    seed: Annotated[str | None, typer.Option(metavar="NUMBER")] = None,
    precision: Precision = None,
    compile: Compile = None,
    recipe: RecipeFile = None,
    assignments: Assignments = None,
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/train"),
    resume: Annotated[Literal["auto", "never"], typer.Option(help="auto: go on with what is in --out.")] = "never",
    tensorboard: Annotated[bool | None, typer.Option("--tensorboard", help="Write TensorBoard logs, too.")] = None,
    time_limit: TimeLimit = None,
    print_config: PrintConfig = False,
    debug: Debug = False,
) -> None:
    """Train one network with one method; under torchrun or accelerate launch in several processes."""
    from filtersmith.lab.recipe import config as configs
    from filtersmith.lab.training.stopping import StopRequest, read_deadline

    deadline = read_deadline(time_limit)
    options = {
        **_recipe_options(data, model, epochs, precision, compile),
        "method": method,
        "seed": seed,
        "train.tensorboard": tensorboard,
    }
    config = configs.merge(configs.RunConfig, recipe=recipe, options=options, assignments=assignments or ())
    if print_config:
        print(configs.to_yaml(config), end="")
        return
    from filtersmith.lab.recipe.arms import method_alone
    from filtersmith.lab.training import run as training
    from filtersmith.lab.training.progress import Live
    from filtersmith.methods.composition import compose

    config = config.model_copy(update={"method": str(compose(method_alone(config.method)))})
    loaded = training.load_data(config)
    main_process = int(os.environ.get("RANK", "0")) == 0
    console = Console(quiet=not main_process)
    label = f"{config.method}, seed {config.seed}"
    with Live(console, 1, every_epoch=True) as live, StopRequest(deadline) as stop:
        live.begin(label)
        result = training.train(config, out, loaded, resume=resume == "auto", progress=live, stop=stop)
    if main_process:
        console.print(
            f"{label}: test {result.epochs[-1].test_accuracy:.2%} after {len(result.epochs)} epochs",
            markup=False,
            highlight=False,
        )
        print(f"Deployed network: {(out / 'model.safetensors').resolve()}", flush=True)


@app.command(short_help="Write the deployed network of a run as one file, and check it.")
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    format: Annotated[Literal["safetensors", "pt2", "onnx"], typer.Option(help="pt2: a program of torch.export.")],
    out: Annotated[
        Path | None, typer.Option(help="The file; default: export.FORMAT in the folder of the run.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Write the deployed network of a run as one file, read it back and check that it is the same."""
    from filtersmith.lab.export import export
    from filtersmith.lab.results.numbers import size

    done = export(run, format, out, verbose=debug)
    plural = "" if done.convolutions == 1 else "s"
    difference = f"relative difference {done.difference:.1e}" if done.difference else "no difference"
    facts = [f"{done.convolutions} convolution{plural}"]
    if done.kernels < done.convolutions:
        facts[0] += f" on {done.kernels} kernel{'' if done.kernels == 1 else 's'}"
    if done.zeros >= SHOWN_ZEROS:
        facts.append(f"{done.zeros:.0%} of the parameters are 0")
    print(f"{size(done.size)}: {', '.join(facts)}, {difference} ({done.reader})")
    # Last and alone, as it may be long.
    print(f"Wrote {done.path.resolve()}", flush=True)


@app.command(short_help="Print the tables of results, and write them as a page.")
def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of comparisons, or results.json files.")],
    out: Annotated[Path | None, typer.Option(help="The page; default: report.html beside the first results.")] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the tables as Markdown and write no page.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Print the tables of results, and write a page with tables, curves and configurations."""
    from filtersmith.lab.results.document import load
    from filtersmith.lab.results.report import write_report
    from filtersmith.lab.results.tables import build_table, legend, notes_to_markdown, to_markdown, to_terminal
    from filtersmith.lab.training.folder import make_folder

    comparisons = [load(path) for path in runs]
    tables = [build_table(comparison) for comparison in comparisons]
    if markdown:
        print("\n\n".join([*map(to_markdown, tables), "\n".join(notes_to_markdown(legend(tables)))]))
        return
    console = Console()
    console.print(to_terminal(tables))
    console.print()
    first = runs[0]
    page = out or (first if first.is_dir() else first.parent) / "report.html"
    make_folder(page.parent)
    print(f"Report: {write_report(comparisons, page).resolve()}", flush=True)


@app.command(name="list")
def list_(
    what: Annotated[Literal["methods", "models", "data", "recipes"], typer.Argument()] = "methods",
    debug: Debug = False,
) -> None:
    """List methods, models, data sets or recipes."""
    from filtersmith.lab.listing import LISTS

    Console().print(LISTS[what](), markup=False, highlight=False)


@app.command(short_help="Print the card of a method: what it does, options, results.")
def describe(method: Annotated[str, typer.Argument(help="A name of `list methods`.")], debug: Debug = False) -> None:
    """Print the card of a method: paper, what it does, options, what was measured."""
    from filtersmith.common.options import unknown_name
    from filtersmith.lab.listing import card
    from filtersmith.methods import BASELINE, METHODS
    from filtersmith.methods.spelling import option_names

    if method == BASELINE:
        print("baseline: plain training with the recipe's optimizer; what every method is compared with.")
        return
    if method not in METHODS:
        raise unknown_name("method", method, [BASELINE, *METHODS])
    record = METHODS[method]
    options = f"Options on the command line: {', '.join(option_names(method)) or 'none'}"
    print(card(f"{record.card}\n\n{options}", Console().width))


def _recipe_options(
    data: str | None, model: str | None, epochs: str | None, precision: str | None, compile: bool | None
) -> dict[str, Any]:
    return {
        "data.name": data,
        "model.name": model,
        "train.epochs": epochs,
        "train.precision": precision,
        "train.compile": compile,
    }


def _compare(config: Any, out: Path, dry_run: bool, jobs: int, deadline: Any) -> None:
    """Train what is missing, print the table, write the page; of a dry run only say what would be done."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("compare runs in one process; `filtersmith train` runs in several")
    from filtersmith.lab import compare as comparing
    from filtersmith.lab.training.run import load_data

    config, whole = comparing.with_earlier(comparing.normalised(config), out)
    console = Console()
    loaded = load_data(config)
    if dry_run:
        _show_plan(console, config, loaded, out, comparing.kept(config, whole))
        return
    from filtersmith.lab.results.report import write_report
    from filtersmith.lab.results.tables import build_table, to_terminal
    from filtersmith.lab.training.progress import Live

    planned = len(config.methods) * len(config.seeds)
    console.print(comparing.title(config, loaded), style="bold", markup=False, highlight=False)
    with Live(console, planned) as live:
        comparison = comparing.compare(config, out, loaded, live, jobs=jobs, deadline=deadline)
    page = write_report([comparison], out / "report.html")
    console.print()
    console.print(to_terminal([build_table(comparison)]))
    console.print()
    # Not through rich, which would fold a long path.
    print(f"Report: {page.resolve()}", flush=True)
    asked = [run for run in comparison.runs if run.method in config.methods and run.seed in config.seeds]
    if any(run.status == "failed" for run in asked):
        raise typer.Exit(1)


def _show_plan(console: Console, config: Any, data: Any, out: Path, kept: str | None) -> None:
    from filtersmith.lab import compare as comparing

    comparing.check_folders(comparing.plan(config, out))
    for line in filter(None, [kept, *comparing.check_methods(config, data)]):
        console.print(line, markup=False, highlight=False)
    console.print(comparing.title(config, data), style="bold", markup=False, highlight=False)
    steps = -(-len(data.train) // config.train.batch_size)
    console.print(
        f"{len(data.train):,} training and {len(data.test):,} test images of {data.image_size}x{data.image_size}, "
        f"{data.num_classes} classes, {steps} steps per epoch",
        highlight=False,
    )
    for one in comparing.plan(config, out):
        state = "finished" if one.folder.finished() else "begun" if one.folder.exists() else "to do"
        console.print(f"  {one.arm}, seed {one.config.seed}: {state}", markup=False, highlight=False)
    console.print(f"Nothing was trained. The results would stand in {out}.", markup=False, highlight=False)


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    from filtersmith.lab.training.errors import Interrupted, RunFailed

    try:
        code = app(standalone_mode=False)
        if code == 130:  # so typer's newer versions report Ctrl-C, and the older ones by an exception
            raise KeyboardInterrupt
        sys.exit(code if isinstance(code, int) else 0)
    except (typer.Abort, KeyboardInterrupt):
        _fail(None, "stopped at once; what was saved before is kept", 130)
    except Interrupted as error:
        again = "the same command goes on from there (train: with --resume auto)"
        _fail(error, f"{error}; {again}", error.code)
    except ValueError as error:
        _fail(error, str(error), 2)
    except (RunFailed, RuntimeError, OSError) as error:
        _fail(error, str(error), 1)
    except Exception as error:
        # typer's usage errors carry their text in a method; the module of their classes depends on its version.
        if not hasattr(error, "format_message"):
            _fail(error, f"{type(error).__name__}: {error} (--debug shows where)", 1)
        text = error.format_message()
        if text.startswith("Usage:"):  # the command alone: its help
            print(text)
            sys.exit(2)
        _fail(None, text.replace("Value error, ", ""), 2)


def _fail(error: BaseException | None, message: str, code: int) -> NoReturn:
    if _debug and error is not None:
        raise error
    print(f"filtersmith: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
