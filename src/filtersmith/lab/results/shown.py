"""What the networks of a comparison say about test images: pictures in a file beside its results."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from filtersmith.lab.results.document import read, write_atomically
from filtersmith.lab.results.picture import Picture

FILE_NAME = "pictures.json"
SCHEMA = 1


class Shown(BaseModel):
    """What the network of one run says, and by which weights it says so."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True)
    method: str
    seed: int
    weights: str
    """SHA-256 of the file of its weights: pictures of others are drawn anew."""
    pictures: tuple[Picture, ...]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    schema_version: Annotated[Literal[1], Field(alias="schema")] = 1
    shown: tuple[Shown, ...]


def load(results: str | os.PathLike[str]) -> tuple[Shown, ...]:
    """The pictures beside a results file, or in the folder of one; none where there is no file of them.

    Raises ValueError, in one line that names the file, where it is not JSON or not of this schema.
    """
    place = Path(results)
    file = (place if place.is_dir() else place.parent) / FILE_NAME
    return read(file, "a file of pictures", SCHEMA, _Document).shown if file.exists() else ()


def save(shown: Iterable[Shown], folder: Path) -> Path:
    """Write the pictures into the folder of the results; returns the path."""
    return write_atomically(
        folder / FILE_NAME, _Document(shown=tuple(shown)).model_dump_json(by_alias=True, indent=1)
    )
