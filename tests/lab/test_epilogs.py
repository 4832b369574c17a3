"""Every example of a help text is a call that its command takes, in lines of a terminal."""

from __future__ import annotations

import re
import shlex

import pytest
from typer.testing import CliRunner

from filtersmith.cli import app
from filtersmith.lab import endings, epilogs

TEXTS = [getattr(epilogs, name) for name in dir(epilogs) if name.isupper()]


def calls(text: str) -> list[list[str]]:
    whole = text.replace("\\\n", " ")
    return [
        shlex.split(line.partition(" > ")[0]) for line in re.findall(r"^  (filtersmith .*)$", whole, re.MULTILINE)
    ]


@pytest.mark.parametrize("text", TEXTS)
def test_examples_can_be_typed(text: str) -> None:
    assert calls(text)
    assert max(map(len, text.splitlines())) <= 78
    for program, command, *arguments in calls(text):
        assert program == "filtersmith"
        checked = ["--print-config"] if command in ("compare", "train") else ["--help"]
        done = CliRunner().invoke(app, [command, *arguments, *checked])
        assert done.exit_code == 0, done.output


def test_every_command_shows_its_example_unbroken() -> None:
    for name in ("compare", "train", "export", "report", "list", "describe"):
        done = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"})
        example = getattr(epilogs, name.upper()).replace("\b\n", "").splitlines()[1]
        assert example.strip() in map(str.strip, done.output.splitlines()), done.output


def test_the_exit_codes_are_those_of_the_endings() -> None:
    said = {int(code) for code in re.findall(r"\b(\d+)[ ,]", epilogs.ALL.partition("Exit codes:")[2])}
    assert said == {endings.DONE, endings.FAILED, endings.REFUSED, 75, endings.STOPPED, 143}
