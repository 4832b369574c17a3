"""Networks of which a method leaves filters out for a while, and what others must not do to them meanwhile.

The method that does it marks the modules that it changes. A mark knows its module, so that a copy has none that
counts: a copy is a network of its own, whatever it computes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from weakref import ref

from torch import nn

MARK = "_left_out_by"
"""Attribute of a changed module."""


class Owner:
    """Who leaves filters out: one object for each method that is at work, by the name that its user knows."""

    def __init__(self, method: str) -> None:
        self.method = method


class _Mark:
    """That ``owner`` changes how a module computes; on any other module it means nothing."""

    def __init__(self, owner: Owner | None = None, module: nn.Module | None = None) -> None:
        self.owner, self.module = owner, None if module is None else ref(module)

    def __deepcopy__(self, memo: Any) -> _Mark:
        return self

    def __reduce__(self) -> tuple[type[_Mark], tuple[()]]:
        return _Mark, ()


def mark(module: nn.Module, owner: Owner | None) -> None:
    """Say that ``owner`` changes how a module computes; ``None``: nobody does."""
    vars(module).pop(MARK, None)
    if owner is not None:
        vars(module)[MARK] = _Mark(owner, module)


def owner_of(module: nn.Module) -> Owner | None:
    """Who changes how a module computes now; nobody where it is a copy of such a module."""
    found = vars(module).get(MARK)
    return found.owner if found is not None and found.module is not None and found.module() is module else None


def refuse_sub_phase(
    modules: Iterable[nn.Module], doing: str, but: Owner | None = None, *, copies: bool = False
) -> None:
    """``ValueError`` in a sub-phase of a method, other than ``but``: what it left out would come back, or be lost.

    Args:
        modules: those of the network.
        doing: what cannot be done, behind "cannot".
        copies: whether a copy that computes without these filters (zeros do not make it) is refused, too.
    """
    for module in modules:
        if (owner := owner_of(module)) is not None and owner is not but:
            raise ValueError(
                f"cannot {doing}: the network is in a sub-phase of {owner.method}, which leaves filters out of it: "
                f"wait until they are back, or call finish() of that {owner.method} first"
            )
        if copies and MARK in vars(module):
            raise ValueError(f"cannot {doing} in a copy of a sub-phase, which lacks filters: copy in a full phase")
