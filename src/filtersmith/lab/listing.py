"""What `filtersmith list` shows: methods, networks, data sets, tasks, recipes; each as something for rich to print.

Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from filtersmith import zoo
from filtersmith.lab.data.sources import SOURCES
from filtersmith.lab.recipe.packaged import recipe_comment, recipe_names
from filtersmith.lab.results.numbers import count
from filtersmith.lab.tasks.names import TASKS
from filtersmith.methods import BASELINE, METHODS
from filtersmith.zoo.figures import figures
from filtersmith.zoo.info import not_installed


def methods() -> Group:
    """Every method with what it does, whether the deployed network changes, and where it comes from."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("method", no_wrap=True)
    table.add_column("what it does", overflow="fold")
    table.add_column("deployed\nnetwork", no_wrap=True)
    table.add_column("source", overflow="fold")
    table.add_row(BASELINE, "plain training", "as it is", "")
    for m in METHODS.values():
        table.add_row(m.name, Text(m.summary), "as it is" if m.same_network else "changed", Text(m.paper))
    broken = [Text(f"{name} cannot be loaded: {error}") for name, error in METHODS.broken.items()]
    return Group(table, *([Text(), *broken] if broken else []))


def models() -> Group:
    """Every family in a line of its own, its networks below it."""
    width = 2 + max(len(name) for info in zoo.MODELS for name in info.names)
    shown: list[Table | Text] = [_model_rows(width, [("model", "parameters", "mult-adds", "input", "tables")])]
    known = figures()
    for info in zoo.MODELS:
        task, rows = info.listed_for, []
        for name in info.names:
            parameters, multiply_adds = known[name]
            counts = f"{parameters:,}", count(multiply_adds)
            size = f"{task.image_size}x{task.image_size}x{task.in_channels}"
            rows.append((f"  {name}", *counts, size, info.tables.get(name, "")))
        heading = Text(f"{info.pattern}: {info.summary}; images: {info.input}", style="bold")
        shown += [heading, _model_rows(width, rows)]
    libraries = {info.library for info in zoo.MODELS if info.library}
    missing = [library for library in sorted(libraries) if not _installed(library)]
    notes = [
        "",
        "Parameters, and multiply-adds of one image of that size, for 10 classes (torchvision: 1,000); tables (T) "
        "and figures of the papers that train the network.",
        *map(not_installed, missing),
    ]
    return Group(*shown, *map(Text, notes))


def _installed(library: str) -> bool:
    try:
        return find_spec(library) is not None
    except (ImportError, ValueError):  # it is there, and hidden or damaged
        return False


def _model_rows(width: int, rows: Sequence[tuple[str, ...]]) -> Table:
    """Rows of `list models`; every family has a table of its own, so the columns have fixed widths."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(width=width, no_wrap=True)
    table.add_column(width=11, justify="right")
    table.add_column(width=9, justify="right")
    table.add_column(width=9)
    table.add_column()
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def data() -> Table:
    """Every data set, and every way to name one's own."""
    return _table([("data", "what it is"), *SOURCES.items()])


def tasks() -> Table:
    """The tasks: what is trained on which data, by which network if none is named, and what is measured."""
    rows: list[tuple[str, ...]] = [("task", "what is trained", "data", "network", "measured")]
    for name, info in TASKS.items():
        rows.append((name, info.summary, info.data, info.network, ", ".join((info.score, *info.more))))
    return _table(rows)


def recipes() -> Table:
    """The recipes that come with the package."""
    return _table([("recipe", "what it is"), *((name, recipe_comment(name)) for name in recipe_names())])


def _table(rows: list[tuple[str, ...]]) -> Table:
    """A table without lines; the first row has the headings."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    heads, *body = rows
    for number, head in enumerate(heads):
        table.add_column(head, no_wrap=number == 0, overflow="fold")
    for row in body:
        table.add_row(*map(Text, row))
    return table


LISTS: dict[str, Callable[[], RenderableType]] = {
    "methods": methods,
    "models": models,
    "data": data,
    "tasks": tasks,
    "recipes": recipes,
}
"""What is asked for -> its list."""
