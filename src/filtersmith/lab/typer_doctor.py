"""`filtersmith doctor` as typer has it."""

from __future__ import annotations

from filtersmith.lab import typer_options as given
from filtersmith.lab.typer_commands import end


def doctor(debug: given.Debug = False) -> None:
    """Print versions, devices and threads, what works here and what does not: one line each."""
    from filtersmith.lab.doctor import report

    text, code = report()
    print(text)
    end(code)
