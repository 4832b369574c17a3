"""``filtersmith list`` and what it lists."""

from __future__ import annotations

from typer.testing import CliRunner

from filtersmith.lab.listing import LISTS
from filtersmith.lab.typer_lists import lists


def test_every_list_is_a_command() -> None:
    for what in LISTS:
        done = CliRunner().invoke(lists, [what])
        assert (done.exit_code, len(done.output) > 100) == (0, True), what


def test_without_a_word_it_lists_methods() -> None:
    assert "wau" in CliRunner().invoke(lists, []).output
