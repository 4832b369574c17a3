"""Under which licences the data of a run are, as far as that is known: a card says it, and guesses none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from filtersmith.lab.recipe.strict_yaml import read

UNKNOWN = "unknown"
"""The hub's word for a licence that nobody has stated."""
_KNOWN = {
    "digits": "CC BY 4.0 (Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI)",
}
_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING")


def of_data(name: str) -> str:
    """What is known of the licence of a data set, in words that go behind "Data:".

    A folder's ``README.md`` may name it as data cards of the hub do (``license:``), or a file ``LICENSE`` lies there.

    >>> of_data("cifar10")
    'licence unknown'
    """
    if name in _KNOWN:
        return _KNOWN[name]
    place = Path(name.partition(":")[2]).expanduser()
    if not name.partition(":")[2] or not place.exists():  # nor is it known of what was fetched
        return "licence unknown"
    folder = place if place.is_dir() else place.parent
    if stated := _in_card(folder / "README.md"):
        return stated
    found = next((file for file in _FILES if (folder / file).is_file()), None)
    return f"{_first_words(folder / found)} ({found} of the data)" if found else "licence unknown"


def _in_card(card: Path) -> str | None:
    """The field ``license`` at the head of a data card."""
    try:
        _, mark, rest = card.read_text(encoding="utf-8").partition("---\n")
        head: Any = read(rest.partition("\n---")[0]) if mark else None
    except (OSError, ValueError):
        return None
    found = head.get("license") if isinstance(head, dict) else None
    return ", ".join(map(str, found)) if isinstance(found, list) else str(found) if found else None


def _first_words(file: Path) -> str:
    """The first line of a licence, which names it."""
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.strip(" #*") for line in lines if line.strip(" #*")), "a licence without a name")[:80]
