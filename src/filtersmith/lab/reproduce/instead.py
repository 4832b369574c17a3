"""Which data stands in place of which of the papers' sets: what ``--data`` of ``filtersmith reproduce`` says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from filtersmith.common.options import bad_option, unknown_name, whole_number
from filtersmith.common.words import plural
from filtersmith.lab.papers.sets import SETS

DOWNLOADED = tuple(name for name, one in SETS.items() if not one.form)
_SIZE = "image_size"


@dataclass(frozen=True)
class Instead:
    """What stands in place of the papers' sets.

    Attributes:
        rest: the data that was named alone; it stands for each of ``stands_for`` that has no data of its own.
        stands_for: names of the papers' sets.
        named: set -> its data.
        image_size: pixels a side in place of the recipes'.
    """

    rest: str | None = None
    stands_for: tuple[str, ...] = DOWNLOADED
    named: Mapping[str, str] = field(default_factory=dict, hash=False)
    image_size: int | None = None

    def of(self, papers: str) -> str | None:
        """What stands in place of a set; ``None``: nothing does."""
        return self.named.get(papers, self.rest if papers in self.stands_for else None)

    def all_sets(self) -> tuple[str, ...]:
        """The papers' sets in whose place something stands."""
        return (*self.named, *(name for name in self.stands_for if self.rest is not None and name not in self.named))


def read_instead(text: str | None, stands_for: Iterable[str], known: Iterable[str] = tuple(SETS)) -> Instead:
    """What ``--data`` says: ``NAME``, or ``SET=NAME`` for several sets, and ``image_size=PIXELS``, with commas.

    >>> found = read_instead("voc:cells,imagenet=imagefolder:photos,image_size=128", ["voc2007"])
    >>> found.of("voc2007"), found.of("imagenet"), found.of("coco"), found.image_size
    ('voc:cells', 'imagefolder:photos', None, 128)

    Args:
        text: as typed; ``None``: nothing stands for anything.
        stands_for: the sets that data without a name of a set stands for.
        known: the sets that may be named.

    Raises:
        ValueError: an unknown set, one that is named twice or without data, a size that is none.
    """
    rest: str | None = None
    named: dict[str, str] = {}
    for part in () if text is None else _parts(text):
        name, equals, value = part.partition("=")
        if not (equals and re.fullmatch(r"\w+", name)):
            if rest is not None:
                raise bad_option("data", text, f"one set without a name, then SET=NAME; it has {rest} and {part}")
            rest = part
        elif name not in {*known, _SIZE}:
            raise unknown_name("set of --data", name, [*known, _SIZE])
        elif not value or name in named:
            raise bad_option("data", text, f"{name}=NAME, once")
        else:
            named[name] = value
    size = named.pop(_SIZE, None)
    return Instead(rest, tuple(stands_for), named, None if size is None else _pixels(size))


def _parts(text: str) -> list[str]:
    """At the commas that are followed by ``WORD=``: others are of a path."""
    return [part.strip() for part in re.split(r",\s*(?=\w+=)", text)]


def _pixels(text: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", text):
        raise bad_option(f"{_SIZE} of --data", text, "a whole number of pixels >= 1")
    return whole_number(f"{_SIZE} of --data", int(text), 1)


def resized(title: str, pixels: int | None) -> str:
    """The title of data whose images have another size than a recipe's."""
    return title if pixels is None else f"{title} at {plural(pixels, 'pixel')}"
