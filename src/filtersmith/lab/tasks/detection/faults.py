"""What is wrong with annotations and can be skipped: counted by kind, and said in a line each."""

from __future__ import annotations

import os
from enum import Enum

from filtersmith.common.words import noun, one_line
from filtersmith.lab.data.files import shortened

_SHOWN = 3


class Fault(Enum):
    """Each kind of fault, as it is said of one and of several."""

    NO_IMAGE = ("image is not there and is left out", "images are not there and are left out")
    UNREADABLE = ("image cannot be read and is left out", "images cannot be read and are left out")
    NO_ANNOTATION = ("image has no annotation and is left out", "images have no annotation and are left out")
    MALFORMED = (
        "annotation cannot be read, and its image is left out",
        "annotations cannot be read, and their images are left out",
    )
    SEVERAL_FILES = (
        "image has a second file of its name, which is not read",
        "images have a second file of their name, which is not read",
    )
    LISTED_TWICE = ("image is listed twice and counted once", "images are listed twice and counted once")
    IN_BOTH = (
        "image for testing is listed for training, too, and is not trained on",
        "images for testing are listed for training, too, and are not trained on",
    )
    OTHER_NAME = (
        "annotation names another image inside; the name of its own file is what counts",
        "annotations name another image inside; the names of their own files are what counts",
    )
    OTHER_SIZE = (
        "annotation says another size than its image has, and is not believed",
        "annotations say another size than their images have, and are not believed",
    )
    UNKNOWN_IMAGE = (
        "box belongs to an image that is not listed and is left out",
        "boxes belong to images that are not listed and are left out",
    )
    UNKNOWN_CLASS = (
        "box has no class, or one that is not listed, and is left out",
        "boxes have no class, or one that is not listed, and are left out",
    )
    NO_NUMBERS = (
        "box is left out, as its coordinates are not four finite numbers",
        "boxes are left out, as their coordinates are not four finite numbers",
    )
    NO_AREA = ("box has no area and is left out", "boxes have no area and are left out")
    OUTSIDE = ("box lies outside of its image and is left out", "boxes lie outside of their images and are left out")
    CLIPPED = ("box reaches beyond its image and is clipped", "boxes reach beyond their images and are clipped")


class Faults:
    """The faults found so far, and where."""

    def __init__(self) -> None:
        self._found: dict[Fault, list[str]] = {}

    def add(self, fault: Fault, where: str) -> None:
        """Count a fault; ``where`` is the name of a file."""
        self._found.setdefault(fault, []).append(one_line(os.fsencode(where).decode(errors="replace")))

    def count(self, fault: Fault) -> int:
        """How often it was found."""
        return len(self._found.get(fault, ()))

    def notes(self) -> list[str]:
        """A line for each kind, with the number and the first few places."""
        return [
            f"{len(found):,} {noun(len(found), *fault.value)}: {shortened(list(dict.fromkeys(found)), _SHOWN)}"
            for fault in Fault
            if (found := self._found.get(fault))
        ]
