from __future__ import annotations

import io
import os
import sys

import pytest
from rich.table import Table

from filtersmith.lab.console import make_console


def shown(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO) -> list[str]:
    table = Table(box=None, show_header=False)
    table.add_column()
    table.add_row("word " * 60)
    monkeypatch.setattr(sys, "stdout", stream)
    make_console().print(table)
    return stream.getvalue().rstrip().splitlines()


@pytest.mark.parametrize("variable", ["TERM", "FORCE_COLOR"])
def test_what_is_piped_has_one_line_a_row(monkeypatch, variable):
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setenv(variable, "1")  # a colour in a pipe does not make it a terminal
    assert len(shown(monkeypatch, io.StringIO())) == 1


def test_columns_are_an_edge_everywhere(monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    lines = shown(monkeypatch, io.StringIO())
    assert len(lines) > 5
    assert max(map(len, lines)) <= 50


def test_a_terminal_has_its_own_width(monkeypatch):
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(os, "get_terminal_size", lambda *_: os.terminal_size((70, 20)))
    lines = shown(monkeypatch, Screen())
    assert len(lines) > 3
    assert max(map(len, lines)) <= 70


def test_a_quiet_console_says_nothing(capsys):
    make_console(quiet=True).print("word")
    assert capsys.readouterr().out == ""
