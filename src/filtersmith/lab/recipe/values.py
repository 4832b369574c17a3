"""The kinds of values that options take, each with what it says where a value is none of them.

An option given as a text, as the command line does, is read as `filtersmith.lab.recipe.strict_yaml` reads it: in
decimal digits without a sign of plus, spaces, or underscores.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from pydantic import BeforeValidator

from filtersmith.lab.recipe.strict_yaml import NUMBER, TRUTH, WHOLE

LARGEST = 2**63 - 1
"""What counts in NumPy and torch can be."""


def whole(least: int, most: int | None = None) -> BeforeValidator:
    """A whole number in a range; ``5.0`` and ``True`` are none."""
    allowed = f"a whole number of at least {least}" if most is None else f"a whole number from {least} to {most:,}"

    def check(value: Any) -> int:
        number: Any = _read(value, WHOLE.fullmatch, int)
        plain = isinstance(number, int) and not isinstance(number, bool)
        if not plain or not least <= number <= (most or LARGEST):
            raise _bad(value, allowed)
        return int(number)

    return BeforeValidator(check)


def number(fits: Callable[[float], bool], allowed: str) -> BeforeValidator:
    """A finite number that ``fits``; ``allowed`` says which these are."""

    def check(value: Any) -> float:
        number = _read(value, NUMBER.fullmatch, float)
        if (
            isinstance(number, bool)
            or not isinstance(number, (int, float))
            or not _finite(number)
            or not fits(number)
        ):
            raise _bad(value, allowed)
        return float(number)

    return BeforeValidator(check)


def _truth(value: Any) -> bool:
    if isinstance(value, str) and TRUTH.fullmatch(value):
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise _bad(value, "true or false")
    return value


truth: BeforeValidator = BeforeValidator(_truth)


def truth_or(*words: str) -> BeforeValidator:
    """True, false, or one of some words."""

    def check(value: Any) -> bool | str:
        if value in words:
            return str(value)
        try:
            return _truth(value)
        except ValueError:
            raise _bad(value, f"true, false, {', '.join(words[:-1])} or {words[-1]}") from None

    return BeforeValidator(check)


def _read(value: Any, is_one: Callable[[str], Any], made: Callable[[str], Any]) -> Any:
    """A text as the number that it spells, if it does; everything else as it is."""
    try:
        return made(value) if isinstance(value, str) and is_one(value) else value
    except ValueError:  # .nan, thousands of digits
        return value


def _finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # a whole number beyond all floats
        return False


def _bad(value: Any, allowed: str) -> ValueError:
    return ValueError(f"must be {allowed}, got {shown(value)}")


def shown(value: Any) -> str:
    """A value in a message."""
    return shortened(repr(value))


def shortened(text: str, most: int = 80) -> str:
    """A text in one line, and not in a page of it."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 4]} ..."
