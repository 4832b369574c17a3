"""What costs time is not imported; `list` refuses what it does not know."""

from __future__ import annotations

import pytest
import typer

from filtersmith.lab.typer_commands import Commands, Lists, end


def test_flags_that_are_not_given_are_false() -> None:
    app = typer.Typer(cls=Commands, add_completion=True)
    seen: list[object] = []

    @app.command()
    def one(debug: bool = False, compile: bool | None = typer.Option(None, "--compile/--no-compile")) -> None:
        seen.append((debug, compile))

    @app.command()
    def two() -> None: ...

    group = typer.main.get_command(app)
    flags = {param.name: param.default for param in group.get_params(typer.Context(group))}
    assert flags["help"] is False
    assert flags["install_completion"] is False
    app(["one"], standalone_mode=False)
    assert seen == [(False, None)], "a flag with two spellings may still be neither"


def test_a_list_that_there_is_not() -> None:
    app = typer.Typer(cls=Lists, add_completion=False)

    @app.command()
    def methods() -> None: ...

    @app.command()
    def data() -> None: ...

    with pytest.raises(ValueError, match=r"unknown list 'dato' \(did you mean 'data'\?\); known: methods, data"):
        app(["dato"], standalone_mode=False)


def test_a_command_ends_with_its_exit_code() -> None:
    end(0)
    with pytest.raises(typer.Exit) as ended:
        end(75)
    assert ended.value.exit_code == 75
