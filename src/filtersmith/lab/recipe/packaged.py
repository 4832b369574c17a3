"""The recipes that come with the package, as texts."""

from __future__ import annotations

from importlib import resources
from typing import Any


def recipe_names() -> list[str]:
    """Their names, in the order of the alphabet."""
    return sorted(p.name.removesuffix(".yaml") for p in _recipes().iterdir() if p.name.endswith(".yaml"))


def recipe_text(name: str) -> str:
    """The YAML of a recipe."""
    text: str = (_recipes() / f"{name}.yaml").read_text(encoding="utf-8")
    return text


def recipe_comment(name: str) -> str:
    """What a recipe says about itself: the comment at its top."""
    lines = recipe_text(name).splitlines()
    return " ".join(line.removeprefix("#").strip() for line in lines if line.startswith("#"))


def _recipes() -> Any:
    return resources.files("filtersmith.lab.papers") / "recipes"
