"""What a record of the zoo is, and what a network is asked to fit."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from filtersmith.common.lazy import Named
from filtersmith.common.options import bad_option

# Digits in a name: no leading zeros, so that a network has one name only; re's \d would take other scripts.
NUMBER = "(?:0|[1-9][0-9]*)"


@dataclass(frozen=True)
class Task:
    """What the network has to fit: classes, channels, and height = width of the images in pixels.

    ``small_images`` asks for a stem that keeps small images large; it matters to networks of other
    libraries only, ours are made for small images. A bad value raises ValueError.
    """

    num_classes: int = 10
    in_channels: int = 3
    image_size: int = 32
    small_images: bool = False

    def __post_init__(self) -> None:
        for option in ("num_classes", "in_channels", "image_size"):
            object.__setattr__(self, option, positive_int(option, getattr(self, option)))
        if not isinstance(self.small_images, bool):
            raise bad_option("small_images", self.small_images, "True or False")


@dataclass(frozen=True)
class ModelInfo:
    """One family of networks: what a listing shows of it, and how a name becomes a network.

    Attributes:
        pattern: how its names are written, for people (``vanilla-N-X``).
        regex: matches exactly its names; its named groups are what ``build`` reads.
        names: the concrete names worth listing.
        input: the images it takes, for people.
        paper: where it comes from.
        summary: one line.
        build: ``(match of regex, task) -> network``, randomly initialised from torch's generator; or
            ``"module:name"`` of that function, imported when it is first asked for.
        tables: of a name, the tables of the four papers that train it (``WAU T1, RePr T4``).
        listed_for: the task for which a listing counts parameters and multiply-adds.
        library: the library that its networks need besides torch, if any.
    """

    pattern: str
    regex: str
    names: tuple[str, ...]
    input: str
    paper: str
    summary: str
    build: Any = Named()  # noqa: RUF009  # a function, or the text
    tables: Mapping[str, str] = field(default_factory=dict)
    listed_for: Task = field(default_factory=Task)
    library: str = ""


def not_installed(library: str) -> str:
    """What is said where the networks of a library are asked for that is not there."""
    return f'networks of {library} need {library}, which is not installed: pip install "filtersmith[vision]"'


def positive_int(option: str, value: object) -> int:
    """``value`` as an int; ValueError unless it is a whole number >= 1 (NumPy's count, booleans do not)."""
    allowed = "a whole number of at least 1"
    if isinstance(value, bool):
        raise bad_option(option, value, allowed)
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise bad_option(option, value, allowed) from None
    if number < 1:
        raise bad_option(option, value, allowed)
    return number
