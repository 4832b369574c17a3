"""The console on which all commands print."""

from __future__ import annotations

import os

from rich.console import Console

UNBROKEN = 100_000
"""Columns of what is piped: no table is as wide."""


def make_console(*, quiet: bool = False) -> Console:
    """A console as wide as the terminal; what is piped has no edge, so that one row stays one line.

    Rich takes 80 columns there. Whoever wants an edge sets ``COLUMNS``, which counts everywhere.
    """
    console = Console(quiet=quiet)
    if not console.file.isatty() and "COLUMNS" not in os.environ:
        console.width = UNBROKEN
    return console
