"""The image files below a folder: each one once, and account of what is left out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""How the names of images end, in small or capital letters."""

_SYSTEM = {
    "__macosx",
    "@eadir",
    "lost+found",
    "$recycle.bin",
    "system volume information",
    "thumbs.db",
    "desktop.ini",
}
_SHOWN = 3


@dataclass
class Skipped:
    """What is below the folder ``root`` and not read, by reason."""

    root: Path
    hidden: list[str] = field(default_factory=list)
    no_image: list[str] = field(default_factory=list)
    no_class: list[str] = field(default_factory=list)
    loops: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)

    def short(self, path: str | Path) -> str:
        """Below the root, and as a text that can be printed."""
        return os.fsencode(os.path.relpath(path, self.root)).decode(errors="replace")

    def notes(self) -> list[str]:
        """A line for each reason, with the number and the first few names."""
        no_image = f"skipped, as the name ends in none of {' '.join(SUFFIXES)}"
        reasons = (
            (self.hidden, "hidden file or folder is skipped", "hidden files or folders are skipped"),
            (self.no_image, f"file is {no_image}", f"files are {no_image}"),
            (self.no_class, "image in no class folder is skipped", "images in no class folder are skipped"),
            (self.loops, "link to a folder above is not followed", "links to folders above are not followed"),
            (
                self.twice,
                "second name of an image is a link and not counted",
                "second names of images are links and not counted",
            ),
        )
        return [
            f"{len(names):,} {one if len(names) == 1 else several}: {shortened(names, _SHOWN)}"
            for found, one, several in reasons
            if (names := list(dict.fromkeys(found)))  # a folder may be looked at twice
        ]


def shortened(names: Sequence[str], shown: int) -> str:
    """The first names, and how many more there are.

    >>> shortened(["a", "b", "c", "d"], 2)
    'a, b and 2 more'
    """
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more:,} more" if more > 0 else "")


def is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def folders_in(folder: Path, skipped: Skipped) -> list[str]:
    """Names of the folders right below, sorted; links to folders count, but not to one above."""
    names = []
    for entry in entries(folder):
        if is_hidden(entry.name):
            skipped.hidden.append(skipped.short(entry.path))
        elif _is_dir(entry):
            if entry.is_symlink() and _is_above(os.path.realpath(entry.path), os.path.realpath(folder)):
                skipped.loops.append(skipped.short(entry.path))
            elif re.search(r"[\x00-\x1f\ud800-\udfff]", entry.name):  # nor could it stand in results
                raise ValueError(f"{folder} has a folder whose name can't be printed, {entry.name!a}: rename it")
            else:
                names.append(entry.name)
        elif entry.is_symlink() and not is_image(entry.name) and not os.path.exists(entry.path):
            raise ValueError(f"{entry.path} is a link to {os.readlink(entry.path)}, which is not there")
    return names


def loose_images(folder: Path) -> list[str]:
    """Names of the images that lie in the folder itself."""
    return [one.name for one in entries(folder) if is_image(one.name) and not is_hidden(one.name) and one.is_file()]


def images_below(folder: Path, skipped: Skipped) -> dict[str, str]:
    """Every image at any depth, sorted by folder and name, with the file that it really is.

    Hidden files and folders are left out, links are followed, but not to a folder above. A file with several names
    has the first one.
    """
    found = sorted(_walk(str(folder), os.path.realpath(folder), skipped))
    once: dict[str, str] = {}
    seen: set[str] = set()
    for above, name, real in found:
        path = os.path.join(above, name)
        if real in seen:
            skipped.twice.append(skipped.short(path))
        else:
            once[path] = real
            seen.add(real)
    return once


def entries(folder: Path | str) -> list[os.DirEntry[str]]:
    """What a folder holds, sorted by name; ``ValueError`` where it can't be read."""
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise ValueError(f"{folder} cannot be read: {error.strerror}") from error


def is_hidden(name: str) -> bool:
    """Whether a name is one of those that systems and editors leave behind."""
    return name.startswith(".") or name.lower() in _SYSTEM


def _walk(folder: str, real: str, skipped: Skipped, above: tuple[str, ...] = ()) -> Iterator[tuple[str, str, str]]:
    """Folder, name and real path of every image; ``above`` are the real folders on the way here."""
    above = (*above, real)
    for entry in entries(folder):
        target = os.path.realpath(entry.path) if entry.is_symlink() else os.path.join(real, entry.name)
        if is_hidden(entry.name):
            skipped.hidden.append(skipped.short(entry.path))
        elif _is_dir(entry):
            if entry.is_symlink() and any(_is_above(target, one) for one in above):
                skipped.loops.append(skipped.short(entry.path))
            else:
                yield from _walk(entry.path, target, skipped, above)
        elif is_image(entry.name):
            if (entry.is_symlink() or not entry.is_file()) and _is_special(
                entry.path
            ):  # a pipe or a device could be read for ever
                raise ValueError(f"{entry.path} is no file")
            yield folder, entry.name, target
        else:
            skipped.no_image.append(skipped.short(entry.path))


def _is_above(folder: str, below: str) -> bool:
    """Whether ``folder`` is ``below`` or holds it; both are real paths."""
    return os.path.join(below, "").startswith(os.path.join(folder, ""))


def _is_dir(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder or a link to one; asked of the path, a link to itself is none and no error."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _is_special(path: str) -> bool:
    """Whether it is there and neither file nor folder: a pipe, a device."""
    return os.path.exists(path) and not os.path.isfile(path)
