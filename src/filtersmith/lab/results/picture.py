"""A picture of a page: what it is called, what it shows in words, and its data as CSV."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from filtersmith.common.words import one_line

Cell = str | int | float | None
FORMULA = ("=", "+", "-", "@")
"""What a text begins with that a spreadsheet takes for a formula."""
LONGEST = 60
"""Characters of the name of a file."""


@dataclass(frozen=True)
class Picture:
    """A picture and its data.

    Attributes:
        caption: its title.
        alt: what it shows, for who cannot see it.
        csv: its data (`as_csv`).
        source: of an <img>; empty where the template draws it.
    """

    caption: str
    alt: str
    csv: str
    source: str = ""

    @property
    def file(self) -> str:
        """The name under which a browser saves the data."""
        return re.sub(r"[^a-z0-9]+", "-", self.caption.lower())[:LONGEST].strip("-") + ".csv"

    @property
    def link(self) -> str:
        """The data as an address that a page can hold."""
        return "data:text/csv;charset=utf-8," + quote(self.csv, safe=",()=:;@/")


def as_csv(heads: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """A table as CSV: numbers stay numbers, None is an empty cell, and no text can be a formula.

    >>> as_csv(["method", "points"], [["wau", -3.1], ["=1+1", None]])
    "method,points\\nwau,-3.1\\n'=1+1,\\n"
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for row in (heads, *rows):
        writer.writerow([_as_text(cell) if isinstance(cell, str) else cell for cell in row])
    return buffer.getvalue()


def _as_text(text: str) -> str:
    """The text in one line, with an apostrophe before what would be a formula.

    Names of methods come from files that others wrote: a line break would begin a row of its own, and spreadsheets
    read wide forms (U+FF1D) as narrow ones.
    """
    text = one_line(text)
    return f"'{text}" if unicodedata.normalize("NFKC", text).lstrip().startswith(FORMULA) else text
