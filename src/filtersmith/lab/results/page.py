"""What all pages are made with: one base template, its style and its script, in one file that loads nothing."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jinja2
    from markupsafe import Markup

SCRIPT, STYLE = "page.js", "page.css"


def need_extra() -> None:
    """Raises ValueError where the extra `report` is not installed, before anything is drawn."""
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f'the report needs {error.name}, which is not installed: pip install "filtersmith[report]"'
        ) from error


def render_page(template: str, **values: object) -> str:
    """A page as text; `template` extends `base.html.j2`.

    The browser runs the base's script, whose hash the page tells it, and no other.
    """
    script, style = _source(SCRIPT), _source(STYLE)
    page = environment().get_template(template)
    return page.render(script=script, script_hash=content_hash(script), style=style, **values)


@cache
def environment() -> jinja2.Environment:
    """Where templates are read; whatever they show is escaped."""
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.PackageLoader("filtersmith.lab.results"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["breakable"] = breakable
    return made


def content_hash(script: str) -> str:
    """The source expression of a Content-Security-Policy that allows this script alone."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def breakable(text: str) -> Markup:
    """Let a long method name break where its parts meet; everything is escaped first."""
    from markupsafe import Markup, escape

    pieces = re.split(r"(?<=[,(+])|(?=@)", text)
    return Markup("<wbr>").join(escape(piece) for piece in pieces)


def _source(file: str) -> Markup:
    """A file of the templates as it is: a template would drop a newline, and the hash would be another one."""
    from markupsafe import Markup

    loader = environment().loader
    assert loader is not None
    return Markup(loader.get_source(environment(), file)[0])
