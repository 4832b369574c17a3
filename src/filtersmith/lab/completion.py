"""What the shell completes: names of methods, networks, data sets, recipes. Nothing here imports torch."""

from __future__ import annotations

import re


def methods(incomplete: str) -> list[str]:
    """Methods separated by commas and joined by ``+``: the last one is completed, those before it stay."""
    from filtersmith.methods import BASELINE, METHODS

    return _after(incomplete, "[,+]", [BASELINE, *METHODS])


def one_method(incomplete: str) -> list[str]:
    """One method alone."""
    from filtersmith.methods import BASELINE, METHODS

    return _after(incomplete, None, [BASELINE, *METHODS])


def models(incomplete: str) -> list[str]:
    """The networks of the list."""
    from filtersmith.zoo.families import MODELS

    return _after(incomplete, None, [name for info in MODELS for name in info.names])


def data(incomplete: str) -> list[str]:
    """Data sets; of those that take a path the part before it."""
    from filtersmith.lab.data.sources import SOURCES

    return _after(incomplete, None, [re.sub("(?<=:).*", "", name) for name in SOURCES])


def tasks(incomplete: str) -> list[str]:
    """The tasks."""
    from filtersmith.lab.tasks.names import TASKS

    return _after(incomplete, None, list(TASKS))


def recipes(incomplete: str) -> list[str]:
    """The recipes of the package; files are completed by the shell itself where none begins so."""
    from filtersmith.lab.recipe.packaged import recipe_names

    return _after(incomplete, None, recipe_names())


def _after(incomplete: str, separator: str | None, names: list[str]) -> list[str]:
    """The names that begin with what stands after the last separator, each behind what stands before it."""
    start = 0 if separator is None else max((m.end() for m in re.finditer(separator, incomplete)), default=0)
    before, begun = incomplete[:start], incomplete[start:]
    return [before + name for name in names if name.startswith(begun)]
