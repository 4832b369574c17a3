"""The page of the commands: what each says of itself, with its examples and its exit codes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import typer
from typer.testing import CliRunner

from filtersmith.cli import app
from filtersmith_site.written import code, heading, page

COLUMNS = 80


def pages() -> dict[str, str]:
    """File below docs/generated -> its text."""
    sections = [
        part
        for words in commands()
        for part in (heading(" ".join(["filtersmith", *words])), code(shown(words), "text"))
    ]
    return {"commands.rst": page(heading("Commands", "="), _BEGIN, *sections)}


_BEGIN = (
    "Each command with ``--help``, as it prints it. Below ``filtersmith`` stand the exit codes of all of them. "
    "``filtersmith describe NAME`` prints what the :doc:`pages of the methods <methods/index>` begin with."
)


def commands() -> list[list[str]]:
    """The words of each command, none for the first one."""
    return list(_below(typer.main.get_command(app), []))


def _below(command: Any, words: list[str]) -> Iterator[list[str]]:
    yield words
    for name, one in getattr(command, "commands", {}).items():
        if not one.hidden:
            yield from _below(one, [*words, name])


def shown(words: list[str]) -> str:
    """The help of a command, in so many columns and without colours."""
    before = os.environ.get("COLUMNS")
    try:
        result = CliRunner().invoke(
            app,
            [*words, "--help"],
            prog_name="filtersmith",
            terminal_width=COLUMNS,
            env={"COLUMNS": str(COLUMNS), "NO_COLOR": "1", "TERM": "dumb"},
        )
    finally:
        assert os.environ.get("COLUMNS") == before
    if result.exit_code:
        raise RuntimeError(f"filtersmith {' '.join(words)} --help ended with {result.exit_code}: {result.output}")
    return str(result.output).strip()
