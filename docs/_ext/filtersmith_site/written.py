"""What generated pages have in common: reStructuredText by lines, and files written only where they differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path


def heading(text: str, mark: str = "-") -> str:
    """A heading.

    >>> print(heading("Name", "="))
    Name
    ====
    """
    return f"{text}\n{mark * len(text)}"


def code(text: str, language: str = "python") -> str:
    """A block of code.

    >>> print(code("x = 1"))
    .. code-block:: python
    <BLANKLINE>
       x = 1
    """
    return f".. code-block:: {language}\n\n" + "\n".join(f"   {line}".rstrip() for line in text.splitlines())


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table; cells are of one line.

    >>> print(table(["a"], [["1"]]))
    .. list-table::
       :header-rows: 1
    <BLANKLINE>
       * - a
       * - 1
    """
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in (head, *rows):
        lines += [f"   {'  ' if number else '* '}- {cell}".rstrip() for number, cell in enumerate(row)]
    return "\n".join(lines)


def contents(names: Iterable[str]) -> str:
    """The pages below this one, for the sidebar."""
    return "\n".join([".. toctree::", "   :hidden:", "", *(f"   {name}" for name in names)])


def page(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"


def write(folder: Path, pages: Mapping[str, str]) -> None:
    """Files of a folder that belongs to the build: what is no page any more goes, what did not change stays."""
    for file in folder.rglob("*"):
        if file.is_file() and file.relative_to(folder).as_posix() not in pages:
            file.unlink()
    for name, text in pages.items():
        file = folder / name
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
