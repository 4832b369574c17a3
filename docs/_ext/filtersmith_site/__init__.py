"""The pages that the build makes by itself, below docs/generated, and links that lead out of docs/."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from filtersmith_site import api, commands, methods, notebooks, repository
from filtersmith_site.written import write


def make_pages(app: Any) -> None:
    """Before anything is read."""
    docs = Path(app.srcdir)
    pages = {
        **methods.pages(),
        **api.pages(),
        **commands.pages(),
        **repository.pages(docs.parent),
        **notebooks.pages(docs),
    }
    write(docs / "generated", pages)


def lead_links(app: Any, docname: str, source: list[str]) -> None:
    """The links of a Markdown page, as they are in the repository, to the pages of the site."""
    file = Path(app.env.doc2path(docname))
    if file.suffix != ".rst":
        source[0] = repository.lead_links(source[0], file, Path(app.srcdir).parent)


def lead_names(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Names of pages in a docstring, to the pages."""
    lines[:] = [repository.link_pages(line) for line in lines]


def setup(app: Any) -> dict[str, bool]:
    app.connect("builder-inited", make_pages)
    app.connect("source-read", lead_links)
    app.connect("autodoc-process-docstring", lead_names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
