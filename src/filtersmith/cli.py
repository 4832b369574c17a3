"""The command ``filtersmith``: compare, train, export, report, audit, reproduce, list, describe, doctor.

Here stand the options; what the commands do is `filtersmith.lab.commands`, how they end `filtersmith.lab.endings`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal, NoReturn

from filtersmith import __version__
from filtersmith.common.words import one_line
from filtersmith.lab import commands, completion, epilogs
from filtersmith.lab.audit.options import Options
from filtersmith.lab.commands import Reproduction
from filtersmith.lab.recipe.origin import Origins

try:
    import typer

    from filtersmith.lab import typer_options as given
    from filtersmith.lab.typer_commands import Command, Commands, end
    from filtersmith.lab.typer_doctor import doctor
    from filtersmith.lab.typer_lists import lists
    from filtersmith.lab.typer_outputs import export, report
except ModuleNotFoundError as _error:  # the core alone is installed
    sys.exit(f'filtersmith: error: the command line needs {_error.name}: pip install "filtersmith[train]"')

app: typer.Typer = typer.Typer(
    name="filtersmith",
    cls=Commands,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

_origins = Origins(given.TYPED)
"""Where the options of this call came from, for the message about one that cannot be."""


def _show_version(value: bool) -> None:
    if value:
        print(f"filtersmith {__version__}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", help="Print the version and stop.", callback=_show_version, is_eager=True)
]


@app.callback(no_args_is_help=True, epilog=epilogs.ALL)
def filtersmith(version: Version = False) -> None:
    """Training methods that make the filters of a ConvNet work harder, compared honestly."""


@app.command(short_help="Train methods with several seeds and print what each is worth.", epilog=epilogs.COMPARE)
def compare(
    task: given.TaskName = None,
    data: given.DataName = None,
    model: given.ModelName = None,
    weights: given.WeightsFile = None,
    backbone: given.Backbone = None,
    methods: given.Methods = None,
    all_pairs: given.AllPairs = None,
    seeds: given.Seeds = None,
    generations: given.Generations = None,
    epochs: given.Epochs = None,
    precision: given.Precision = None,
    compile: given.Compile = None,
    channels_last: given.ChannelsLast = None,
    audit: given.Audit = None,
    recipe: given.RecipeFile = None,
    assignments: given.Assignments = None,
    out: Annotated[Path, given.OutFolder(help="Folder of the results; finished runs in it are not repeated.")] = Path(
        "runs/compare"
    ),
    jobs: given.JobsIfSaid = None,
    engine: given.Engine = "processes",
    cpus_per_run: given.CpusPerRun = None,
    gpus_per_run: given.GpusPerRun = None,
    ray_address: given.RayAddress = None,
    time_limit: given.TimeLimit = None,
    dry_run: given.DryRun = False,
    print_config: given.PrintConfig = False,
    debug: given.Debug = False,
) -> None:
    """Train several methods with several seeds and print what each is worth."""
    from filtersmith.lab.recipe import config as configs

    means = commands.means(jobs, time_limit, engine, cpus_per_run, gpus_per_run, ray_address)
    options = {
        **commands.recipe_options(
            task, data, model, commands.begun(weights, backbone), epochs, precision, compile, channels_last
        ),
        "methods": commands.rows_of(methods, all_pairs),
        "seeds": seeds,
        "generations": generations,
        "train.audit": audit,
    }
    config = configs.merge(
        configs.CompareConfig, recipe=recipe, options=options, assignments=assignments or (), origins=_origins
    )
    if print_config:
        print(configs.to_yaml(config), end="")
        return
    end(commands.compare(config, out, means, dry_run=dry_run, pairs=all_pairs is not None))


@app.command(short_help="Train one network with one method.", epilog=epilogs.TRAIN)
def train(
    task: given.TaskName = None,
    data: given.DataName = None,
    model: given.ModelName = None,
    weights: given.WeightsFile = None,
    backbone: given.Backbone = None,
    method: given.MethodName = None,
    epochs: given.Epochs = None,
    seed: given.Seed = None,
    precision: given.Precision = None,
    compile: given.Compile = None,
    channels_last: given.ChannelsLast = None,
    recipe: given.RecipeFile = None,
    assignments: given.Assignments = None,
    out: Annotated[Path, given.OutFolder(help="Folder of the run.")] = Path("runs/train"),
    resume: Annotated[
        Literal["auto", "never"],
        typer.Option("--resume", help="auto: go on with the run in --out; never: refuse one."),
    ] = "never",
    tensorboard: Annotated[bool | None, typer.Option("--tensorboard", help="Write TensorBoard logs, too.")] = None,
    dry_run: given.DryRun = False,
    time_limit: given.TimeLimit = None,
    print_config: given.PrintConfig = False,
    debug: given.Debug = False,
) -> None:
    """Train one network with one method; under torchrun or accelerate launch in several processes."""
    from filtersmith.lab.recipe import config as configs
    from filtersmith.lab.training.stopping import read_deadline

    deadline = read_deadline(time_limit)
    options = {
        **commands.recipe_options(
            task, data, model, commands.begun(weights, backbone), epochs, precision, compile, channels_last
        ),
        "method": method,
        "seed": seed,
        "train.tensorboard": tensorboard,
    }
    config = configs.merge(
        configs.RunConfig, recipe=recipe, options=options, assignments=assignments or (), origins=_origins
    )
    if print_config:
        print(configs.to_yaml(config), end="")
        return
    end(commands.train(config, out, resume=resume == "auto", deadline=deadline, dry_run=dry_run))


app.command(
    short_help="Write the deployed network of a run for elsewhere, and check it.", epilog=epilogs.EXPORT, cls=Command
)(export)
app.command(short_help="Print the tables of results, and write them as a page.", epilog=epilogs.REPORT, cls=Command)(
    report
)


@app.command(short_help="Run the papers' tables, and say which claims hold.", epilog=epilogs.REPRODUCE, cls=Command)
def reproduce(
    table: Annotated[
        str | None, typer.Argument(metavar="TABLE", help="An id such as repr/table4; none: list them all.")
    ] = None,
    rows: given.Rows = None,
    seeds: given.Seeds = Reproduction.seeds,
    scale: given.Scale = Reproduction.scale,
    data: given.DataInstead = None,
    precision: given.Precision = None,
    compile: given.Compile = None,
    out: Annotated[
        Path | None, given.OutFolder(help="Folder of runs and ledger; default: runs/reproduce and results/ledger.")
    ] = None,
    jobs: given.Jobs = Reproduction.jobs,
    time_limit: given.TimeLimit = None,
    plan: given.PlanOnly = False,
    next: given.NextRuns = False,
    debug: given.Debug = False,
) -> None:
    """Run rows of the papers' tables, print them beside the paper's numbers, and give a verdict."""
    end(
        commands.reproduce(
            table,
            rows,
            Reproduction(seeds or "", scale, data, out, jobs, time_limit, precision, compile),
            plan=plan,
            next=next,
        )
    )


@app.command(
    short_help="Show what the filters of a network are doing, and whether some are wasted.",
    epilog=epilogs.AUDIT,
    cls=Command,
)
def audit(
    target: given.Target,
    weights: Annotated[
        str | None,
        typer.Option("--weights", metavar="FILE", help="Its weights: a file, or `pretrained`; none: random."),
    ] = None,
    data: given.DataName = None,
    against: given.Against = None,
    against_weights: given.AgainstWeights = None,
    images: given.Images = "2000",
    oracle: given.Oracle = "0",
    out: Annotated[Path | None, given.OutFolder(help="Folder of page and JSON; default: runs/audit/TARGET.")] = None,
    format: Annotated[
        Literal["text", "json"], typer.Option("--format", help="json: print all numbers, write nothing.")
    ] = "text",
    trust: given.Trust = False,
    settings: given.DataAssignments = None,
    debug: given.Debug = False,
) -> None:
    """Show what the filters of a network are doing, beside the same network with random weights."""
    end(
        commands.audit(
            Options(
                target,
                weights,
                data,
                against,
                against_weights,
                commands.count("images", images),
                commands.count("oracle", oracle),
                out,
                format,
                trust,
                tuple(settings or ()),
            )
        )
    )


app.add_typer(lists, name="list", short_help="List methods, models, data, tasks or recipes.")


@app.command(
    short_help="Print the card of a method: what it does, options, results.", epilog=epilogs.DESCRIBE, cls=Command
)
def describe(
    method: Annotated[str, typer.Argument(help="A name of `list methods`.", autocompletion=completion.one_method)],
    debug: given.Debug = False,
) -> None:
    """Print the card of a method: paper, what it does, options, what was measured."""
    end(commands.describe(method))


app.command(short_help="Say what works on this machine, and what does not.", epilog=epilogs.DOCTOR, cls=Command)(
    doctor
)


def main() -> NoReturn:
    """Run the command line and exit with its code; see `filtersmith.lab.endings`."""
    from filtersmith.lab import endings

    global _origins
    _origins = Origins(given.TYPED)
    try:
        code = app(prog_name="filtersmith", standalone_mode=False)
        sys.stdout.flush()  # a reader that has left shows here, and not when Python ends
        if code == endings.STOPPED:  # so typer's newer versions report Ctrl-C, and the older ones by an exception
            raise KeyboardInterrupt
        sys.exit(code if isinstance(code, int) else 0)
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        if endings.is_broken_pipe(error):
            endings.be_silent()
            sys.exit(endings.UNREAD)
        if isinstance(error, SystemExit):
            raise
        # typer's usage errors carry their text in a method; the module of their classes depends on its version.
        if hasattr(error, "format_message"):
            _fail_of_usage(error)
        if isinstance(error, typer.Abort):
            error = KeyboardInterrupt()
        if given.DEBUG.wished and isinstance(error, Exception):
            raise
        code, message = endings.ending(error, _origins)
    _fail(message, code)


def _fail_of_usage(error: BaseException) -> NoReturn:
    from filtersmith.lab import endings

    text = endings.usage(error)
    if text.startswith("Usage:"):  # the command alone: its help
        print(text)
        sys.exit(endings.REFUSED)
    _fail(text, endings.REFUSED)


def _fail(message: str, code: int) -> NoReturn:
    print(f"filtersmith: error: {one_line(message)}", file=sys.stderr)
    sys.exit(code)
