"""What a person should see of a data set before anything is trained on it."""

from __future__ import annotations

from typing import Protocol

from filtersmith.lab.data.files import shortened
from filtersmith.lab.data.records import Data, FileSet, ImageSet

SHOWN = 10  # names of classes


class Noted(Protocol):
    """Data of any task."""

    @property
    def notes(self) -> tuple[str, ...]: ...


def describe(data: Data) -> list[str]:
    """Lines about the classes, the images of each, their sizes, and what was noted while they were read.

    How many images there are and how large, `compare --dry-run` says in a line of its own.
    """
    splits = (("training", data.train), ("test", data.test), ("held-out", data.held_out))
    counts = [f"{_per_class(part, data)} {what}" for what, part in splits if part is not None]
    lines = [
        f"{data.num_classes:,} classes: {shortened(data.classes, SHOWN)}",
        f"images of each class: {', '.join(counts)}",
    ]
    if data.sizes:
        heights, widths = (_range(*bounds) for bounds in (data.sizes.heights, data.sizes.widths))
        lines.append(f"before they are resized, images are {widths} pixels wide and {heights} high")
    return lines + noted(data)


def noted(data: Noted) -> list[str]:
    """What was noted while the data were read, a line each."""
    return [f"note: {note}" for note in data.notes]


def _per_class(part: ImageSet | FileSet, data: Data) -> str:
    counts = part.labels.bincount(minlength=data.num_classes)
    return _range(int(counts.min()), int(counts.max()))


def _range(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
