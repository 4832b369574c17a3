"""Options that several commands have."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

import typer

from filtersmith.lab import completion
from filtersmith.lab.paths import read_path

TYPED = {
    "recipe": "--recipe",
    "task": "--task",
    "data.name": "--data",
    "model.name": "--model",
    "model.weights": "--weights",
    "methods": "--methods",
    "all_pairs": "--all-pairs",
    "method": "--method",
    "seeds": "--seeds",
    "generations": "--generations",
    "seed": "--seed",
    "train.epochs": "--epochs",
    "train.precision": "--precision",
    "train.compile": "--compile",
    "train.channels_last": "--channels-last",
    "train.tensorboard": "--tensorboard",
    "train.audit": "--audit",
    "backbone": "--backbone",  # which is none, and says what model.weights is
}
"""Options of the configuration that have one of their own on the command line."""


class _Wish:
    """Whether this call is to show tracebacks."""

    wished: bool = False

    def set(self, value: bool) -> None:
        self.wished = self.wished or value


DEBUG = _Wish()
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", callback=DEBUG.set)]
TaskName = Annotated[
    str | None,
    typer.Option(
        "--task", metavar="TASK", help="What is trained; see `list tasks`.", autocompletion=completion.tasks
    ),
]
DataName = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="DATA",
        help="digits, cifar10, ..., imagefolder:PATH; see `list data`.",
        autocompletion=completion.data,
    ),
]
DataInstead = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="DATA",
        help="In place of the papers' data: a name of `list data`; or where sets lie, and the size of images, by "
        "commas: coco=coco:PATH,imagenet=imagefolder:PATH,image_size=64.",
        autocompletion=completion.data,
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NETWORK",
        help="vanilla, resnet20, timm:NAME, net.py:FUNCTION, ...; see `list models`.",
        autocompletion=completion.models,
    ),
]
WeightsFile = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="FILE",
        help="Begin with these weights, as far as they fit: safetensors, or a state dict of torch.save.",
    ),
]
Backbone = Annotated[
    str | None,
    typer.Option(
        "--backbone",
        metavar="RUN",
        help="Begin with the network of a finished run: a detector's backbone, a CNN that is asked about.",
    ),
]
Methods = Annotated[
    str | None,
    typer.Option(
        "--methods",
        metavar="METHODS",
        help='Separated by commas: baseline,wau,"wau(rate=0.3)"; METHOD@NETWORK: on another network.',
        autocompletion=completion.methods,
    ),
]
Seeds = Annotated[str | None, typer.Option("--seeds", metavar="NUMBER", help="So many seeds, from 0.")]
Generations = Annotated[
    str | None,
    typer.Option(
        "--generations", metavar="NUMBER", help="Born-again networks: so many, each taught by the one before."
    ),
]
_jobs = typer.Option(
    "--jobs",
    metavar="NUMBER",
    help="Runs trained at a time, each in a process of its own; threads are divided, GPUs dealt.",
    show_default="1",
)
Jobs = Annotated[str, _jobs]
JobsIfSaid = Annotated[str | None, _jobs]
Engine = Annotated[
    Literal["processes", "ray"],
    typer.Option("--engine", help="What trains: processes of this machine, or the nodes of a Ray cluster."),
]
CpusPerRun = Annotated[
    str | None, typer.Option("--cpus-per-run", metavar="NUMBER", help="With ray: CPUs of each run; 1, if not said.")
]
GpusPerRun = Annotated[
    str | None,
    typer.Option(
        "--gpus-per-run",
        metavar="NUMBER",
        help="With ray: GPUs of each run, or a part of one: 0.25; if not said: 1 where there are any.",
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        metavar="ADDRESS",
        help="HOST:PORT of the head, auto or local; if not said: RAY_ADDRESS, the cluster that runs here, a new one.",
    ),
]
MethodName = Annotated[
    str | None,
    typer.Option(
        "--method",
        metavar="METHOD",
        help='baseline, wau, "wau(rate=0.5)", ...; see `list methods`.',
        autocompletion=completion.methods,
    ),
]
Seed = Annotated[str | None, typer.Option("--seed", metavar="NUMBER", help="Seed of weights, batches and method.")]
Scale = Annotated[
    str, typer.Option("--scale", metavar="SHARE", help="So much of every phase, above 0 and at most 1.")
]
PlanOnly = Annotated[bool, typer.Option("--plan", help="Only say what would be run and how long it would take.")]
NextRuns = Annotated[bool, typer.Option("--next", help="Run what is missing and worth most, of all tables.")]
Rows = Annotated[
    str | None,
    typer.Option(
        "--rows", metavar="ROWS", help="Their numbers (3,4), or part of a model's or method's name (\"C^3(32)\")."
    ),
]
AllPairs = Annotated[
    str | None,
    typer.Option(
        "--all-pairs",
        metavar="METHODS",
        help="In place of --methods: each of these alone, every pair that makes sense, and what they give together.",
        autocompletion=completion.methods,
    ),
]
# Numbers are texts here: the configuration checks them, and says more about it than typer.
Epochs = Annotated[str | None, typer.Option("--epochs", metavar="NUMBER", help="Epochs of a run.")]
Precision = Annotated[Literal["fp32", "bf16", "fp16"] | None, typer.Option("--precision", help="Autocast precision.")]
Compile = Annotated[bool | None, typer.Option("--compile/--no-compile", help="torch.compile the network.")]
ChannelsLast = Annotated[
    bool | None,
    typer.Option(
        "--channels-last/--no-channels-last", help="Memory format of network and images: channels-last, if not said."
    ),
]
RecipeFile = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        metavar="RECIPE",
        help="A YAML file, or one of `list recipes`.",
        autocompletion=completion.recipes,
    ),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Any option of --print-config: train.lr=0.05. Several: the last one wins, over --recipe, --epochs, ...",
    ),
]
DataAssignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="An option of the data: data.image_size=64."),
]
# A parser in place of typer's, which takes "" for the current folder.
OutFolder: partial[Any] = partial(typer.Option, "--out", metavar="FOLDER", parser=read_path)
OutFile: partial[Any] = partial(typer.Option, "--out", metavar="FILE", parser=read_path)
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, show the plan, train nothing.")]
TimeLimit = Annotated[
    str | None,
    typer.Option(
        "--time-limit",
        metavar="TIME",
        help="Stop in time with checkpoints, exit code 75: 90s, 12m, 1h30m.",
    ),
]
PrintConfig = Annotated[bool, typer.Option("--print-config", help="Print the whole configuration and stop.")]
Target = Annotated[
    str,
    typer.Argument(metavar="TARGET", help="Folder of a run, or a network: resnet20, timm:NAME, net.py:FUNCTION."),
]
Against = Annotated[
    str | None,
    typer.Option("--against", metavar="TARGET", help="Another network, in the other triangle of the pictures."),
]
AgainstWeights = Annotated[
    str | None, typer.Option("--against-weights", metavar="FILE", help="The weights of that one.")
]
Images = Annotated[str, typer.Option("--images", metavar="NUMBER", help="Test images that are looked at; 4 or more.")]
Oracle = Annotated[
    str,
    typer.Option(
        "--oracle", metavar="NUMBER", help="Leave filters out one by one, on so many images; 0: not at all."
    ),
]
Trust = Annotated[bool, typer.Option("--trust", help="Read a pickle with objects, which may run any code.")]
Audit = Annotated[
    bool | None, typer.Option("--audit", help="Record what filters do after each epoch: overlap, rank, dead ones.")
]
