"""The commands `filtersmith export` and `filtersmith report`."""

from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner

from filtersmith.cli import app
from filtersmith.lab import commands


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        (["export", "one", "--format", "hub", "--out", "two"], ("export", "one", "hub", "two", False)),
        (["report", "one", "two", "--format", "csv"], ("report", "['one', 'two']", "None", "csv")),
    ],
)
def test_what_was_typed_arrives(typed: list[str], asked: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, ...]] = []

    def export(run: Any, format: str, out: Any, *, verbose: bool) -> int:
        seen.append(("export", str(run), format, str(out), bool(verbose)))
        return 1

    def report(runs: Any, out: Any, format: str) -> int:
        seen.append(("report", str([str(run) for run in runs]), str(out), format))
        return 1

    monkeypatch.setattr(commands, "export", export)
    monkeypatch.setattr(commands, "report", report)
    assert CliRunner().invoke(app, typed).exit_code == 1, "the command's own code"
    assert seen == [asked]


def test_a_format_that_there_is_not() -> None:
    ended = CliRunner().invoke(app, ["export", "one", "--format", "zip"])
    assert ended.exit_code == 2
    assert "hub" in ended.output
