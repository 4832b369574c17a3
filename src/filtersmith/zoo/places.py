"""Which names of networks stand for a user's own code, and when such code is not run."""

from __future__ import annotations

import os
import re

from filtersmith.zoo.families import MODELS


def place_of(name: str) -> str | None:
    """The file or module of a user's own network; ``None`` for the others.

    >>> place_of("nets/net.py:make(width=2)"), place_of("resnet20")
    ('nets/net.py', None)
    """
    for info in MODELS:
        if match := re.fullmatch(info.regex, name):
            return match.groupdict().get("place")
    return None


def refuse_own_code(name: str, file: str | os.PathLike[str], way: str) -> None:
    """``ValueError`` where a file names code as its network: whoever wrote the file would choose what runs here."""
    if place_of(name):
        raise ValueError(f"{file} names a network of a user's own code, {name}, which is not run: {way}")
