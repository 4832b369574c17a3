"""``filtersmith list``: what it lists, each as a command."""

from __future__ import annotations

import typer

from filtersmith.lab import commands, epilogs
from filtersmith.lab.typer_commands import Command, Lists
from filtersmith.lab.typer_options import Debug

lists: typer.Typer = typer.Typer(
    cls=Lists, rich_markup_mode=None, invoke_without_command=True, subcommand_metavar="[WHAT]"
)


@lists.callback(epilog=epilogs.LIST)
def list_(ctx: typer.Context, debug: Debug = False) -> None:
    """List methods (as without a word), models, data sets, tasks or recipes."""
    if ctx.invoked_subcommand is None:
        _done(commands.list_("methods"))


@lists.command("methods", cls=Command, epilog=epilogs.LIST_METHODS, short_help="What each does, and its paper.")
def list_methods(debug: Debug = False) -> None:
    """What each method does, whether the deployed network changes, its paper."""
    _done(commands.list_("methods"))


@lists.command(
    "models", cls=Command, epilog=epilogs.LIST_MODELS, short_help="Networks, with parameters and multiply-adds."
)
def list_models(debug: Debug = False) -> None:
    """Networks by name, with parameters, multiply-adds, images and the papers' tables."""
    _done(commands.list_("models"))


@lists.command("data", cls=Command, epilog=epilogs.LIST_DATA)
def list_data(debug: Debug = False) -> None:
    """Data sets by name, and how one's own are named."""
    _done(commands.list_("data"))


@lists.command("tasks", cls=Command, epilog=epilogs.LIST_TASKS)
def list_tasks(debug: Debug = False) -> None:
    """What can be trained: --task."""
    _done(commands.list_("tasks"))


@lists.command("recipes", cls=Command, epilog=epilogs.LIST_RECIPES)
def list_recipes(debug: Debug = False) -> None:
    """The recipes that come with the package, for --recipe."""
    _done(commands.list_("recipes"))


def _done(code: int) -> None:
    if code:
        raise typer.Exit(code)
