"""Commands of typer that answer fast and show their help as people write it, and the group of what `list` lists."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from filtersmith.common.options import unknown_name


def end(code: int) -> None:
    """End a command with an exit code."""
    if code:
        raise typer.Exit(code)


class _Flags:
    """A command whose flags are False where they are not given: typer imports pydantic to read a None.

    Its arguments are shown without the Python type that newer versions put beside them.
    """

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if getattr(param, "is_flag", False) and param.default is None and not param.secondary_opts:
                param.default = False
            if param.param_type_name == "argument":
                param.display_type_rich = lambda ctx: None
        return params


class Commands(_Flags, TyperGroup):
    """All commands."""


class Lists(_Flags, TyperGroup):
    """`list` and what it lists: words as commands, as an argument would take longer to read."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in self.commands:
            raise unknown_name("list", args[0], self.commands)
        return super().resolve_command(ctx, args)


class Command(_Flags, TyperCommand):
    """One command."""
