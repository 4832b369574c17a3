"""`filtersmith export` and `filtersmith report` as typer has them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from filtersmith.lab import commands
from filtersmith.lab import typer_options as given
from filtersmith.lab.paths import read_path
from filtersmith.lab.typer_commands import end


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.", parser=read_path, metavar="RUN")],
    format: Annotated[
        Literal["safetensors", "pt2", "onnx", "hub"],
        typer.Option("--format", help="pt2: a program of torch.export; hub: a folder for the Hugging Face hub."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="PATH",
            parser=read_path,
            help="The file, of hub the folder; default: export.FORMAT, or hub, in the folder of the run.",
        ),
    ] = None,
    debug: given.Debug = False,
) -> None:
    """Write the deployed network of a run as a file or a folder, read it back and check that it is the same."""
    end(commands.export(run, format, out, verbose=debug))


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Folders of comparisons, or results.json files.", parser=read_path, metavar="RUNS"),
    ],
    out: Annotated[
        Path | None, given.OutFile(help="The page; default: report.html beside the first results.")
    ] = None,
    format: Annotated[
        Literal["text", "markdown", "csv", "json"],
        typer.Option(
            "--format",
            help="text also writes the page; csv and json: a row for each method, accuracies as fractions.",
        ),
    ] = "text",
    debug: given.Debug = False,
) -> None:
    """Print the tables of results, and write a page with tables, curves and configurations."""
    end(commands.report(runs, out, format))
