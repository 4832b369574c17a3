"""How a bad input is worded: one line that names the option, the value and what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from typing import Any

Check = Callable[[str, Any], Any]
"""Gives an option's value back, or raises the ``ValueError`` that names the option, the value and what is allowed."""


def bad_option(option: str, value: object, allowed: str) -> ValueError:
    """The error for an option out of range: ``rate must be a number in (0, 1], got 1.5``."""
    # One line, also for a network or a tensor.
    shown = " ".join(repr(value).split())
    return ValueError(f"{option} must be {allowed}, got {shown}")


def unknown_name(what: str, value: object, known: Iterable[str]) -> ValueError:
    """The error for a name that is not among the known ones, with the nearest spelling first.

    >>> str(unknown_name("option", "LR", ["train.lr", "seed"]))
    "unknown option 'LR' (did you mean 'train.lr'?); known: train.lr, seed"
    """
    names, given = list(known), str(value).lower()
    close = [name for name in names if given in (name.lower(), name.lower().rpartition(".")[2])]
    close = close or difflib.get_close_matches(given, names, n=1) or difflib.get_close_matches(str(value), names, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    more = f", ... ({len(names)} in all)" if len(names) > 30 else ""
    return ValueError(f"unknown {what} {value!r}{hint}; known: {', '.join(names[:30])}{more}")


def fraction(option: str, value: object) -> float:
    """``value`` as a float if it is a number in (0, 1]; otherwise the error that names ``option``."""
    return number(option, value, lambda x: 0 < x <= 1, "a number in (0, 1]")


def below_one(option: str, value: object) -> float:
    """``value`` as a float if it is a number in [0, 1); otherwise the error that names ``option``."""
    return number(option, value, lambda x: 0 <= x < 1, "a number in [0, 1)")


def number(option: str, value: object, fits: Callable[[float], bool], allowed: str) -> float:
    """``value`` as a float if it is a number that ``fits``; otherwise the error that says what is ``allowed``."""
    if isinstance(value, bool) or not isinstance(value, Real) or not fits(float(value)):
        raise bad_option(option, value, allowed)
    return float(value)


def above_zero(option: str, value: object) -> float:
    """``value`` as a float if it is a finite number above 0; otherwise the error that names ``option``."""
    return number(option, value, lambda x: 0 < x < float("inf"), "a number above 0")


def seed_number(option: str, value: object) -> int:
    """``value`` as a seed, if torch's generators take it; otherwise the error that names ``option``."""
    if not isinstance(value, int) or isinstance(value, bool) or not -(2**63) <= value < 2**64:
        raise bad_option(option, value, "a whole number of at most 64 bits")
    return value


def whole_number(option: str, value: object, least: int) -> int:
    """``value`` as an int if it is a whole number of at least ``least``; otherwise the error for ``option``."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise bad_option(option, value, f"a whole number of at least {least}")
    return int(value)


def at_least(least: int) -> Check:
    """A check for whole numbers of at least ``least``."""
    return lambda option, value: whole_number(option, value, least)


def one_of(allowed: Iterable[str]) -> Check:
    """A check for one of some words."""
    words = tuple(allowed)

    def check(option: str, value: object) -> object:
        if value not in words:
            raise bad_option(option, value, f"one of {', '.join(words)}")
        return value

    return check


def yes_or_no(option: str, value: object) -> bool:
    """``value`` if it is True or False; otherwise the error that names ``option``."""
    if not isinstance(value, bool):
        raise bad_option(option, value, "True or False")
    return value


def check_options(checks: Mapping[str, Check], **given: Any) -> dict[str, Any]:
    """Several options, checked, with values as their checks give them back; the first one out of range raises."""
    return {option: checks[option](option, value) for option, value in given.items()}


def check_state(what: str, state: object, own: Mapping[str, Any], same: Iterable[str]) -> None:
    """``ValueError`` unless a loaded state has all keys of one's ``own``, and for some keys the ``same`` value."""
    if not isinstance(state, Mapping):
        raise ValueError(f"state must be a state_dict of {what}, got {type(state).__name__}")
    if missing := own.keys() - state.keys():
        raise ValueError(f"not a state of {what}: {', '.join(sorted(missing))} missing")
    for key in same:
        if state[key] != own[key]:
            raise ValueError(f"the state of {what} was saved with {key}={state[key]!r}, this one has {own[key]!r}")


def layer_names(layers: Iterable[str]) -> list[str]:
    """The value of an option ``layers`` that is not ``None``; ``ValueError`` if it is no sequence of names."""
    if isinstance(layers, str) or not isinstance(layers, Iterable):
        raise bad_option("layers", layers, "a sequence of layer names")
    names = list(layers)
    if not names or not all(isinstance(name, str) for name in names):
        raise bad_option("layers", names, "None or at least one layer name")
    return names


def names_or_none(option: str, value: Any) -> list[str] | None:
    """``value`` as a list if it is a sequence of names, or ``None``; otherwise the error that names ``option``."""
    return None if value is None else layer_names(value)


def first_line(error: BaseException) -> str:
    """An error in one line: the first of its message, or its kind where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
