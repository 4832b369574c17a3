"""Which option an error is about, and how that option was given: on the command line, by --set, in a recipe."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_NAMED = re.compile(r"(?:data|model|train)\.[a-z_]+")


class OptionError(ValueError):
    """A value that cannot be; ``option`` is the dotted name of what it was given for."""

    def __init__(self, option: str, message: str) -> None:
        super().__init__(message)
        self.option = option


@contextmanager
def about(option: str) -> Iterator[None]:
    """Errors within are about this option, unless they begin with the name of another one."""
    try:
        yield
    except OptionError:
        raise
    except ValueError as error:
        named = _NAMED.match(str(error))
        raise OptionError(named[0] if named else option, str(error)) from error


class Origins:
    """Where the value of each option came from, in the words of the person who gave it.

    >>> origins = Origins({"train.epochs": "--epochs"})
    >>> origins.record("train.epochs", origins.typed("train.epochs"))
    >>> origins.tell(OptionError("train.epochs", "train.epochs must be a whole number, got 'x'"))
    "--epochs: train.epochs must be a whole number, got 'x'"
    """

    def __init__(self, typed: Mapping[str, str] | None = None) -> None:
        self._typed = dict(typed or {})
        self._found: dict[str, str] = {}

    def typed(self, option: str) -> str:
        """How the command line spells an option that it has by itself."""
        return self._typed.get(option, option)

    def record(self, option: str, origin: str, value: Any = None) -> None:
        """Remember where an option came from, or each of those in a section ``value``."""
        self._found[option] = origin
        if isinstance(value, Mapping):
            for name, below in value.items():
                self.record(f"{option}.{name}", origin, below)

    def of(self, option: str) -> str | None:
        """Where an option, or the section that it is of, came from; ``None`` where it has its default."""
        parts = option.split(".")
        for length in range(len(parts), 0, -1):
            if (found := self._found.get(".".join(parts[:length]))) is not None:
                return found
        return None

    def tell(self, error: BaseException) -> str:
        """The error's message, behind where its option came from."""
        message = str(error)
        named = _NAMED.match(message)
        option = getattr(error, "option", named[0] if named else None)
        origin = self.of(option) if isinstance(option, str) else None
        return message if origin is None or message.startswith(origin) else f"{origin}: {message}"
