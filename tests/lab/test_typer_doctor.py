"""The command `filtersmith doctor`."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from filtersmith.cli import app
from filtersmith.lab import doctor


@pytest.mark.parametrize("code", [0, 1])
def test_it_prints_the_report_and_ends_with_its_code(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "report", lambda: ("works  all", code))
    ended = CliRunner().invoke(app, ["doctor"])
    assert (ended.exit_code, ended.output) == (code, "works  all\n")


def test_its_help_has_an_example_and_the_exit_code() -> None:
    ended = CliRunner().invoke(app, ["doctor", "--help"])
    assert "filtersmith doctor\n" in ended.output
    assert "Exit code 1: the laboratory itself cannot work." in ended.output
