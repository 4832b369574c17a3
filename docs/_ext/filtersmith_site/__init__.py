"""The pages that the build makes by itself, below docs/generated, and links that lead out of docs/."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.domains.python import PyObject

from filtersmith_site import api, commands, methods, notebooks, repository
from filtersmith_site.written import write

LONG = 30
"""Characters of a cell."""


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


def mend_docstring(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Names of pages as links; a property's words as they are, of which napoleon takes some for its type."""
    if what == "property":
        lines[:] = (inspect.getdoc(obj) or "").splitlines()
    lines[:] = [repository.link_pages(line) for line in lines]


def mend_signature(app: Any, what: str, name: str, obj: Any, options: Any, signature: Any, returned: Any) -> Any:
    """Defaults that a dataclass makes anew have no value to show, and what stands for them cannot be read."""
    return (signature or "").replace("<factory>", "...") or None, returned


def skip_member(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Fields of a named tuple, of which the class tells."""
    return True if (getattr(obj, "__doc__", None) or "").startswith("Alias for field number") else None


def mark_long_cells(app: Any, doctree: Any) -> None:
    """Cells of tables with so much text that a narrow column would make them tall."""
    for entry in doctree.findall(nodes.entry):
        length = len(entry.astext())
        entry["classes"] += ["long"] * (length > LONG) + ["very-long"] * (length > 4 * LONG)


def setup(app: Any) -> dict[str, bool]:
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"
    app.connect("builder-inited", make_pages)
    app.connect("source-read", lead_links)
    app.connect("autodoc-process-docstring", mend_docstring, priority=600)  # behind napoleon
    app.connect("autodoc-process-signature", mend_signature)
    app.connect("autodoc-skip-member", skip_member)
    app.connect("doctree-read", mark_long_cells)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
