"""What `filtersmith list` shows: methods, networks, data sets, recipes; each as something for rich to print.

Methods and recipes are listed without torch.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from filtersmith.lab.recipe.config import recipe_comment, recipe_names
from filtersmith.lab.results.numbers import count
from filtersmith.methods import BASELINE, METHODS


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


def card(text: str, width: int) -> str:
    """A method card for a terminal of so many columns: paragraphs that are wider are wrapped at words.

    >>> print(card("one two three\\n\\n    code as it is", 8))
    one two
    three
    <BLANKLINE>
        code as it is
    """
    return "\n\n".join(_wrapped(paragraph, width) for paragraph in text.split("\n\n"))


def _wrapped(paragraph: str, width: int) -> str:
    lines = paragraph.splitlines()
    if max(map(len, lines), default=0) <= width or any(line.startswith((" ", "=", "-", "|")) for line in lines):
        return paragraph
    return textwrap.fill(" ".join(lines), width, break_long_words=False, break_on_hyphens=False)


def models() -> Group:
    """Every family in a line of its own, its networks below it."""
    from filtersmith import zoo

    width = 2 + max(len(name) for info in zoo.MODELS for name in info.names)
    shown: list[Table | Text] = [_model_rows(width, [("model", "parameters", "mult-adds", "input", "tables")])]
    missing: dict[str, None] = {}
    for info in zoo.MODELS:
        task, rows = info.listed_for, []
        for name in info.names:
            counts = ["", ""]
            try:
                parameters, multiply_adds = zoo.costs(name, task)
                counts = [f"{parameters:,}", count(multiply_adds)]
            except ValueError as error:
                if not info.library:
                    raise
                missing[str(error)] = None
            size = f"{task.image_size}x{task.image_size}x{task.in_channels}"
            rows.append((f"  {name}", *counts, size, info.tables.get(name, "")))
        heading = Text(f"{info.pattern}: {info.summary}; images: {info.input}", style="bold")
        shown += [heading, _model_rows(width, rows)]
    notes = [
        "",
        "Parameters, and multiply-adds of one image of that size, for 10 classes (torchvision: 1,000); tables (T) "
        "and figures of the papers that train the network.",
        *missing,
    ]
    return Group(*shown, *map(Text, notes))


def _model_rows(width: int, rows: list[tuple[str, ...]]) -> Table:
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
    from filtersmith.lab.data import SOURCES

    return _table([("data", "what it is"), *SOURCES.items()])


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
    "recipes": recipes,
}
"""What is asked for -> its list."""
