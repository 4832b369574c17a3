"""Every example of a help text is a call that its command takes, in lines of a terminal."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from filtersmith.cli import app
from filtersmith.lab import endings, epilogs
from filtersmith.lab.jobs import shares
from filtersmith.lab.training import stopping

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
        plain = command in ("compare", "train") and not {"--dry-run", "--print-config"} & {*arguments}
        checked = ["--print-config"] if plain else ["--help"]
        done = CliRunner().invoke(app, [command, *arguments, *checked])
        assert done.exit_code == 0, done.output


def every_command() -> list[str]:
    """By what is typed behind the program's name."""
    top: Any = typer.main.get_command(app)
    inner = {name: getattr(command, "commands", {}) for name, command in top.commands.items()}
    return sorted([*inner, *(f"{name} {word}" for name, words in inner.items() for word in words)])


def test_every_command_shows_its_example_unbroken() -> None:
    commands = sorted(name.lower().replace("_", " ") for name in dir(epilogs) if name.isupper() and name != "ALL")
    assert commands == every_command(), "each has its examples"
    for name in commands:
        done = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"})
        example = getattr(epilogs, name.upper().replace(" ", "_")).replace("\b\n", "").splitlines()[1]
        assert example.strip() in map(str.strip, done.output.splitlines()), done.output
        assert max(map(len, done.output.splitlines())) <= 80


def test_the_exit_codes_are_those_of_the_endings() -> None:
    said = {int(code) for code in re.findall(r"\b(\d+)[ ,]", epilogs.ALL.partition("Exit codes:")[2])}
    assert said == CODES


CODES = {endings.DONE, endings.FAILED, endings.REFUSED, stopping.TIME_LIMIT, endings.STOPPED, 143}
PAGE = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text(encoding="utf-8")


def test_the_page_has_every_exit_code() -> None:
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.M)} == {*CODES, endings.UNREAD}


def test_the_page_has_every_variable_of_the_environment_that_is_read() -> None:
    source = Path(endings.__file__).parents[1]
    texts = [file.read_text(encoding="utf-8") for file in source.rglob("*.py")]
    read = re.compile(r'environ(?:ment)?(?:\.get\(|\.setdefault\(|\[)"([A-Z_]+)"|"([A-Z_]+)" (?:not )?in os\.environ')
    names = {one or other for text in texts for one, other in read.findall(text)}
    named = {*re.findall(r"`([A-Z][A-Z_]+)`", PAGE)}
    assert {"FILTERSMITH_DATA", "COLUMNS", "WORLD_SIZE", "CXX"} <= names
    assert names | {*shares._THREADS, shares._VISIBLE} == named - {"HF_HOME", "TORCH_HOME", "SIGTERM"}
