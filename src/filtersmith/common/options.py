"""How a bad input is worded: one line that names the option, the value and what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from numbers import Integral, Real


def bad_option(option: str, value: object, allowed: str) -> ValueError:
    """The error for an option out of range: ``rate must be a number in (0, 1], got 1.5``."""
    # One line, also for a network or a tensor.
    shown = " ".join(repr(value).split())
    return ValueError(f"{option} must be {allowed}, got {shown}")


def unknown_name(what: str, value: object, known: Iterable[str]) -> ValueError:
    """The error for a name that is not among the known ones, with the nearest spelling first."""
    names = list(known)
    close = difflib.get_close_matches(str(value), names, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    more = f", ... ({len(names)} in all)" if len(names) > 30 else ""
    return ValueError(f"unknown {what} {value!r}{hint}; known: {', '.join(names[:30])}{more}")


def share(option: str, value: object) -> float:
    """``value`` as a float if it is a number in (0, 1]; otherwise the error that names ``option``."""
    return number(option, value, lambda x: 0 < x <= 1, "a number in (0, 1]")


def number(option: str, value: object, fits: Callable[[float], bool], allowed: str) -> float:
    """``value`` as a float if it is a number that ``fits``; otherwise the error that says what is ``allowed``."""
    if isinstance(value, bool) or not isinstance(value, Real) or not fits(float(value)):
        raise bad_option(option, value, allowed)
    return float(value)


def seed_number(value: object) -> int:
    """``value`` as a seed, if torch's generators take it; otherwise the error for the option ``seed``."""
    if not isinstance(value, int) or isinstance(value, bool) or not -(2**63) <= value < 2**64:
        raise bad_option("seed", value, "a whole number of at most 64 bits")
    return value


def whole_number(option: str, value: object, least: int) -> int:
    """``value`` as an int if it is a whole number of at least ``least``; otherwise the error for ``option``."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise bad_option(option, value, f"a whole number of at least {least}")
    return int(value)


def layer_names(layers: Iterable[str]) -> list[str]:
    """The value of an option ``layers`` that is not ``None``; ``ValueError`` if it is no sequence of names."""
    if isinstance(layers, str) or not isinstance(layers, Iterable):
        raise bad_option("layers", layers, "a sequence of layer names")
    names = list(layers)
    if not names or not all(isinstance(name, str) for name in names):
        raise bad_option("layers", names, "None or at least one layer name")
    return names


def first_line(error: BaseException) -> str:
    """An error in one line: the first of its message, or its kind where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
