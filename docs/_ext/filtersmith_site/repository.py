"""Pages of the repository outside docs/, and links: in the files they lead through the repository, here to pages."""

from __future__ import annotations

import inspect
import os
import re
from functools import cache
from pathlib import Path

from filtersmith.methods import METHODS

COPIED = ("CHANGELOG.md", "CONTRIBUTING.md", "results/**/*.md", "benchmarks/**/*.md")
ROOT = Path(__file__).parents[3]
MADE = Path("docs/generated")
_LINK = re.compile(r"(\]\()([^)\s#:]+)(?=[)#\s])")
_NAMED = re.compile(r"``((?:docs|results|benchmarks)/[\w./-]+\.md)``")


def pages(root: Path) -> dict[str, str]:
    """File below docs/generated -> its text, for every Markdown page outside docs/."""
    return {
        place.relative_to(MADE).as_posix(): (root / file).read_text(encoding="utf-8")
        for file, place in places(root).items()
        if file.suffix == ".md" and MADE in place.parents
    }


@cache
def places(root: Path) -> dict[Path, Path]:
    """File in the repository -> the file, there, that its page is made of."""
    copied = [file.relative_to(root) for pattern in COPIED for file in sorted(root.glob(pattern))]
    found = {file: MADE / "repository" / file.with_suffix(".myst") for file in copied}
    found[Path("README.md")] = Path("docs/index.md")
    for file in sorted((root / "docs").glob("notebooks/*.ipynb")):
        found[file.relative_to(root)] = MADE / "notebooks" / f"{file.stem}.myst"
    for name, record in reversed(list(METHODS.items())):  # of several in one file the first
        source = Path(inspect.getfile(inspect.unwrap(record.cls)))
        if root in source.parents:
            found[source.relative_to(root)] = MADE / "methods" / f"{name}.rst"
    return found


def lead_links(text: str, file: Path, root: Path) -> str:
    """The text of a page with its links led to pages; code is left alone, and text where no language is named.

    Args:
        text: Markdown.
        file: which is read.
        root: of the repository.
    """
    read = file.relative_to(root)
    written = {place: original for original, place in places(root).items() if MADE in place.parents}.get(read, read)
    parts = re.split(r"(^```.*?^```|^~~~.*?^~~~)", text, flags=re.M | re.S)
    parts[::2] = [_LINK.sub(lambda link: link[1] + _led(link[2], read, written, root), part) for part in parts[::2]]
    parts[1::2] = [re.sub(r"^```\n", "```text\n", part) for part in parts[1::2]]
    return "".join(parts)


def _led(link: str, read: Path, written: Path, root: Path) -> str:
    target = Path(os.path.normpath(written.parent / link))
    if (root / target).is_dir() and (root / target / "README.md").is_file():
        target /= "README.md"
    return Path(os.path.relpath(places(root).get(target, target), read.parent)).as_posix()


def link_pages(text: str) -> str:
    """Names of pages in reStructuredText as links to them.

    >>> link_pages("see ``docs/tasks.md``")
    'see :doc:`/tasks`'
    """
    return _NAMED.sub(_page_named, text)


def _page_named(found: re.Match[str]) -> str:
    named = Path(found[1])
    if not (ROOT / named).is_file():
        return found[0]
    place = places(ROOT).get(named, named)
    return f":doc:`/{place.relative_to('docs').with_suffix('').as_posix()}`"
