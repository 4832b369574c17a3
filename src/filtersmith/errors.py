"""How a bad input is worded: one line that names the option, the value and what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from numbers import Real


def bad_option(option: str, value: object, allowed: str) -> ValueError:
    """The error for an option out of range: ``rate must be a number in (0, 1], got 1.5``."""
    return ValueError(f"{option} must be {allowed}, got {value!r}")


def unknown_name(what: str, value: object, known: Iterable[str]) -> ValueError:
    """The error for a name that is not among the known ones, with the nearest spelling first."""
    names = list(known)
    close = difflib.get_close_matches(str(value), names, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return ValueError(f"unknown {what} {value!r}{hint}; known: {', '.join(names)}")


def share(option: str, value: object) -> float:
    """``value`` as a float if it is a number in (0, 1]; otherwise the error that names ``option``."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) <= 1:
        raise bad_option(option, value, "a number in (0, 1]")
    return float(value)
