"""Notebooks as pages: their text, their code, and what they printed when they were run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FENCE = "`" * 4


def pages(docs: Path) -> dict[str, str]:
    """File below docs/generated -> its text."""
    files = sorted((docs / "notebooks").glob("*.ipynb"))
    return {f"notebooks/{file.stem}.myst": notebook(file) for file in files}


def notebook(file: Path) -> str:
    """A notebook as Markdown; pictures are within the page. Behind its heading stands a link to the file."""
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    parts = [part for cell in cells for part in _cell(cell)]
    return "\n\n".join([*parts, f"[The notebook as a file](path:../../notebooks/{file.name})"]) + "\n"


def _cell(cell: dict[str, Any]) -> Iterator[str]:
    source = "".join(cell["source"]).strip()
    if cell["cell_type"] == "markdown":
        yield source
    elif cell["cell_type"] == "code" and source:
        yield _code(source, "python")
        yield from filter(None, map(_output, cell["outputs"]))


def _output(output: dict[str, Any]) -> str:
    """What a cell printed, showed or raised; nothing where it is of a kind that a page does not show."""
    data = output.get("data", {})
    if "image/png" in data:
        return f'<img alt="{_said(data)}" src="data:image/png;base64,{"".join(data["image/png"]).strip()}">'
    if "image/svg+xml" in data:
        return "".join(data["image/svg+xml"]).replace("\n\n", "\n")
    text = output.get("text") or data.get("text/plain") or output.get("traceback") or ""
    return _code("".join(text).rstrip(), "text") if text else ""


def _said(data: dict[str, Any]) -> str:
    return "".join(data.get("text/plain", "picture")).strip("<>").replace('"', "'")


def _code(text: str, language: str) -> str:
    return f"{FENCE}{language}\n{text}\n{FENCE}"
