"""One frozen record a method, and the mapping of all of them: ours and those of installed packages.

Nothing here imports torch: the command line lists methods without it.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from filtersmith.common.lazy import Named
from filtersmith.common.options import first_line

GROUP = "filtersmith.methods"
"""The entry-point group of other people's methods. An entry point bears the method's name and gives its record."""

BASELINE = "baseline"
"""Plain training, which is no method and needs no record."""


@dataclass(frozen=True)
class Method:
    """What is known of a method without running it.

    How it meets a training loop is said by what its class implements: see `filtersmith.methods.lifecycle`.

    Example:
        >>> import filtersmith as fs
        >>> fs.METHODS["wau"].cls is fs.WAU, fs.METHODS["wau"].off
        (True, {'rate': 1.0})
        >>> fs.Method("mine", "does nothing", "own work", "collections:OrderedDict").cls.__name__
        'OrderedDict'

    Args and attributes:
        name: as users type it, with hyphens.
        summary: one line.
        paper: where it was published.
        cls: the public class or function, or ``"module:name"`` of it, imported when it is first asked for.
        same_network: whether the deployed network is the one that was handed in. Default ``True``.
        off: the options with which it is exactly plain training; empty where there are none (a re-parametrization is
            off when it is collapsed).
        tried: options with which it does something in a training of seven epochs; the contract trains with them.
        refused: options out of range, one at a time; the contract sees that each is refused by its name.
        maths: raised when the same options come to train other weights; results of before are not mixed with later
            ones. Default 1.

    Raises nothing of its own: ``python -m filtersmith.testing NAME`` says what is wrong with a method. Source: own
    work.
    """

    name: str
    summary: str
    paper: str
    cls: Any = Named()  # noqa: RUF009  # a class, a function, or the text
    same_network: bool = True
    off: Mapping[str, Any] = field(default_factory=dict)
    tried: Mapping[str, Any] = field(default_factory=dict)
    refused: tuple[Mapping[str, Any], ...] = ()
    maths: int = 1

    @property
    def home(self) -> str | None:
        """Where the class is, ``"module:name"``, if the record was made with that."""
        given = vars(self)["_cls"]
        return given if isinstance(given, str) else None

    @property
    def card(self) -> str:
        """The method card: the docstring of the method's file."""
        return inspect.cleandoc(sys.modules[self.cls.__module__].__doc__ or "")


class Registry(Mapping[str, Method]):
    """Name -> record: the methods of filtersmith first, then those of other packages (entry-point group `GROUP`).

    The group is read at the first look-up. A method of it that does not load is left out, with its error in `broken`.
    """

    def __init__(self, own: tuple[Method, ...]) -> None:
        self._own = {record.name: record for record in own}
        self._broken: dict[str, str] = {}
        self._all: dict[str, Method] | None = None

    @property
    def broken(self) -> Mapping[str, str]:
        """Name of an entry point -> why there is no method of that name, in one line."""
        self._read()
        return dict(self._broken)

    def __getitem__(self, name: str) -> Method:
        return self._read()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def __repr__(self) -> str:
        return f"METHODS({', '.join(self)})"

    def _read(self) -> dict[str, Method]:
        if self._all is None:
            found = dict(self._own)
            for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
                try:
                    record = _loaded(point)
                    if record.name in found:
                        raise ValueError(f"there is a method {record.name!r} already")
                    found[record.name] = record
                except (Exception, SystemExit) as error:  # other people's code fails in its own ways
                    package = f" of {point.dist.name}" if point.dist is not None else ""
                    self._broken[point.name] = f"{point.value}{package}: {type(error).__name__}: {first_line(error)}"
            self._all = found
        return self._all


def _loaded(point: EntryPoint) -> Method:
    """The record that an entry point names. Its class is looked up, too: an error is to show here and now."""
    record = point.load()
    if not isinstance(record, Method):
        raise TypeError(f"it must be a filtersmith.Method, got {type(record).__name__}")
    if record.name != point.name or record.name == BASELINE:
        raise ValueError(f"the entry point must bear the method's name, {record.name!r}, got {point.name!r}")
    if not callable(record.cls):
        raise TypeError(f"cls of the record must be a class or a function, got {type(record.cls).__name__}")
    return record
