"""How a check ends: passed, refused in one line when the method is made, or wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

Word = Literal["passed", "refused", "wrong"]
T = TypeVar("T")


class RefusedError(Exception):
    """A method said in one line, when it was made, that it does not take this."""


class WrongError(Exception):
    """What was found is not what is right."""


@dataclass(frozen=True)
class Outcome:
    word: Word
    reason: str = ""


@dataclass(frozen=True)
class Row:
    """All outcomes for one thing; where it cannot be made or run here, none and the reason."""

    library: str
    name: str
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    cannot: str = ""


def judge(check: Callable[[], None]) -> Outcome:
    """How a check ends; an error that nobody expected is wrong, too."""
    try:
        check()
    except RefusedError as refusal:
        return Outcome("refused", str(refusal))
    except WrongError as wrong:
        return Outcome("wrong", str(wrong))
    except Exception as error:
        return Outcome("wrong", f"raises {one_line(error)}")
    return Outcome("passed")


def made(make: Callable[[], T]) -> T:
    """What ``make`` makes; its ``ValueError`` of one line is a refusal."""
    try:
        return make()
    except ValueError as error:
        if "\n" in str(error):
            raise WrongError(f"refused in more than one line: {one_line(error)}") from error
        raise RefusedError(str(error)) from error


def expect(right: bool, otherwise: str) -> None:
    if not right:
        raise WrongError(otherwise)


def one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
