"""A method card as reStructuredText, by the rules that `filtersmith describe` prints it by.

Paragraphs are divided by blank lines. ``**Heading.**`` at the beginning of one is a heading, an indented one is code
or a formula and stays as it is, and so does a table of ``|``; all else is reStructuredText already.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from itertools import groupby

from filtersmith_site.repository import link_pages
from filtersmith_site.written import code, heading, page

_HEADING = re.compile(r"\*\*(.+?)\.\*\*\s*")


def title(text: str) -> str:
    """The first line of a card."""
    return inspect.cleandoc(text).partition("\n")[0]


def body(text: str) -> str:
    """A card without its first line.

    >>> print(body("Name.\\n\\n**Options.** ``a`` is::\\n\\n    x = 1"))
    Options
    -------
    <BLANKLINE>
    ``a`` is:
    <BLANKLINE>
    .. code-block:: python
    <BLANKLINE>
       x = 1
    <BLANKLINE>
    """
    paragraphs = inspect.cleandoc(text).split("\n\n")[1:]
    return page(
        *(part for as_it_is, group in groupby(paragraphs, _as_it_is) for part in _parts(as_it_is, list(group)))
    )


def _as_it_is(paragraph: str) -> bool:
    return paragraph.startswith((" ", "|"))


def _parts(as_it_is: bool, paragraphs: list[str]) -> Iterator[str]:
    if as_it_is:
        block = textwrap.dedent("\n\n".join(paragraphs))
        yield code(block, "python" if _is_python(block) else "text")
        return
    for paragraph in paragraphs:
        if found := _HEADING.match(paragraph):
            yield heading(found[1])
            paragraph = paragraph[found.end() :]
        yield link_pages(re.sub(r"::$", ":", paragraph))


def _is_python(block: str) -> bool:
    try:
        compile(block, "card", "exec")
    except SyntaxError:
        return False
    return True
