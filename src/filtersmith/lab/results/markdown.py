"""Tables of results as GitHub Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from filtersmith.common.words import one_line
from filtersmith.lab.results.document import Comparison
from filtersmith.lab.results.tables import WORDS, Table, build_table, legend


def to_markdown(table: Table, figures: int | None = None) -> str:
    """Title in bold, table, remarks as a list; no legend, and no newline at the end.

    `figures` keeps the first so many columns right of the method.
    """
    heads = table.heads if figures is None else table.heads[: figures + 1]
    rule = ["---" if head in (heads[0], WORDS) else "---:" for head in heads]
    lines = [f"**{_markdown(table.title)}**", "", pipes(heads), f"|{'|'.join(rule)}|"]
    for row in table.rows:
        method = code(row.method) + (f"<br>{_markdown(row.note)}" if row.note else "")
        lines.append(pipes((method, *(_markdown(cell) for cell in row.figures[:figures]))))
    for more in table.more if figures is None else ():
        lines += ["", pipes(map(_markdown, more.heads)), f"|{'|'.join(['---', *['---:'] * (len(more.heads) - 1)])}|"]
        lines += [pipes((code(text), *map(_markdown, cells))) for text, *cells in more.rows]
    return "\n".join([*lines, *([""] if table.remarks else []), *notes_to_markdown(table.remarks)])


def whole(comparisons: Sequence[Comparison]) -> str:
    """Every table, then how they are read, once."""
    tables = [build_table(comparison) for comparison in comparisons]
    return "\n\n".join([*map(to_markdown, tables), "\n".join(notes_to_markdown(legend(tables)))]) + "\n"


def notes_to_markdown(notes: Iterable[str]) -> list[str]:
    """Remarks or a legend as the items of a list."""
    return [f"- {_markdown(note)}" for note in notes]


def pipes(cells: Iterable[str]) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def code(text: str) -> str:
    """Markdown that shows the text as code, in a table, too."""
    return "`" + one_line(text).replace("`", "'").replace("|", "\\|") + "`"


def _markdown(text: str) -> str:
    # Only what Markdown would turn into something else; brackets followed by no link are left readable.
    escaped = re.sub(r"([\\`*_|~])", r"\\\1", one_line(text))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace("](", "]\\(")
