"""Boxes in the layout of Pascal VOC: an XML file for each image, and lists of the images of each split.

Used are ``ImageSets/Main/trainval.txt`` and ``test.txt``; without images for testing, ``train.txt`` and ``val.txt``.
A folder of several years (``VOCdevkit/VOC2007``, ``VOC2012``) is one set: the years that have annotated images for
testing are tested on, and all years are trained on, as the papers do with 2007 and 2012.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from filtersmith.common.words import in_words, one_line
from filtersmith.lab.data.decode import read
from filtersmith.lab.data.files import SUFFIXES, entries, is_hidden, is_image
from filtersmith.lab.tasks.detection.boxes import Thing, check_written, real_size, target_of
from filtersmith.lab.tasks.detection.faults import Fault, Faults
from filtersmith.lab.tasks.detection.records import Layout, Sample

_PARTS = ("Annotations", "JPEGImages", "ImageSets/Main")
_LISTS = ("trainval", "test", "train", "val")


class _Year(NamedTuple):
    """One folder with annotations: what it is called, its lists that can be used, and its images by name."""

    name: str
    path: Path
    lists: dict[str, list[str]]
    images: dict[str, Path]


class _Annotated(NamedTuple):
    """An image with what its annotation says; names of classes, and corners as texts."""

    file: Path
    size: tuple[int, int]
    things: list[tuple[str, list[str | None], bool]]


def read_voc(name: str, path: Path, faults: Faults) -> Layout:
    """Read a folder of VOC, or of several years.

    Args:
        name: What the user typed.
        path: Holds ``Annotations``, ``JPEGImages`` and ``ImageSets/Main``, or ``VOCdevkit``, or ``VOC20xx``.
        faults: Where what is skipped is counted.

    Raises:
        ValueError: A folder or all lists of a split are missing.
    """
    years = [_year(name, one, faults) for one in _years(name, path)]
    train_lists, test_lists, notes = _chosen(name, years)
    train, test = (
        [one for year, part in lists for one in _annotated(year, part, faults)] for lists in (train_lists, test_lists)
    )
    classes = sorted({label for one in train + test for label, _, _ in one.things})
    numbers = {label: number for number, label in enumerate(classes, 1)}
    train_samples, test_samples = (_samples(part, numbers, faults) for part in (train, test))
    return Layout(train_samples, test_samples, tuple(classes), tuple(notes))


def _years(name: str, path: Path) -> list[Path]:
    """The folders that hold annotations: the one that was named, or those of several years below it."""
    if (path / "Annotations").is_dir():
        return [path]
    for above in (path, path / "VOCdevkit", path / "TrainVal" / "VOCdevkit"):
        if found := [one for one in sorted(above.glob("VOC*")) if (one / "Annotations").is_dir()]:
            return found
    raise ValueError(
        f"{name}: {path} holds no Annotations (expected {', '.join(_PARTS)} in it, or in {path}/VOCdevkit/VOC2012)"
    )


def _year(name: str, path: Path, faults: Faults) -> _Year:
    for part in _PARTS:
        if not (path / part).is_dir():
            raise ValueError(f"{name}: there is no folder {path / part}")
    images: dict[str, Path] = {}
    found = [one.name for one in entries(path / "JPEGImages") if is_image(one.name) and not is_hidden(one.name)]
    for file in sorted(found, key=_by_suffix):
        if images.setdefault(Path(file).stem, path / "JPEGImages" / file).name != file:
            faults.add(Fault.SEVERAL_FILES, file)
    lists = {part: names for part in _LISTS if (names := _listed(path, part, faults))}
    return _Year(path.name, path, lists, images)


def _by_suffix(file: str) -> tuple[int, str]:
    """.jpg first, as in VOC itself."""
    return SUFFIXES.index(Path(file).suffix.lower()), file


def _listed(path: Path, part: str, faults: Faults) -> list[str]:
    """The names in a list, each once; none where not one of them is annotated, as in the test lists of some years."""
    file = path / "ImageSets" / "Main" / f"{part}.txt"
    if not file.is_file():
        return []
    lines = read(file).decode("utf-8-sig", errors="surrogateescape").splitlines()
    names = [_name(line) for line in lines if line.strip()]
    once = list(dict.fromkeys(names))
    if not any(_annotation(path, one).is_file() for one in once):
        return []
    seen: set[str] = set()
    for one in names:
        if one in seen:
            faults.add(Fault.LISTED_TWICE, f"{one} in {file.name}")
        seen.add(one)
    return once


def _name(line: str) -> str:
    """The image of a line: without the ``1`` or ``-1`` that lists of one class have, without a suffix.

    >>> _name("2008_000015 -1"), _name("cell 7.jpg")
    ('2008_000015', 'cell 7')
    """
    name = re.sub(r"\s+-?[01]$", "", line.strip())
    return Path(name).stem if is_image(name) else name


def _annotation(path: Path, name: str) -> Path:
    return path / "Annotations" / f"{name}.xml"


def _chosen(name: str, years: list[_Year]) -> tuple[list[tuple[_Year, str]], list[tuple[_Year, str]], list[str]]:
    """The lists to train and to test on, and what is to be said about it."""
    last = "test" if any("test" in year.lists for year in years) else "val"
    first = ("trainval", "train") if last == "test" else ("train", "trainval")
    train = [
        (year, next(one for one in first if one in year.lists)) for year in years if set(first) & set(year.lists)
    ]
    test = [(year, last) for year in years if last in year.lists]
    wanted = ((train, "train on", "trainval.txt or train.txt"), (test, "test on", "test.txt or val.txt"))
    for lists, purpose, files in wanted:
        if not lists:
            raise ValueError(
                f"{name}: there are no annotated images to {purpose}: no list {files} in "
                f"{', '.join(str(year.path / 'ImageSets/Main') for year in years)} names one"
            )
    used = [
        " and ".join(f"{part}.txt{f' of {year.name}' if len(years) > 1 else ''}" for year, part in lists)
        for lists in (train, test)
    ]
    return train, test, [f"trained on the images of {used[0]}, tested on those of {used[1]}"]


def _annotated(year: _Year, part: str, faults: Faults) -> Iterator[_Annotated]:
    """The images of a list, with what their annotations say."""
    for name in year.lists[part]:
        file = _annotation(year.path, name)
        if not file.is_file():
            faults.add(Fault.NO_ANNOTATION, name)
            continue
        image = year.images.get(name, year.path / "JPEGImages" / f"{name}.jpg")
        if (size := real_size(image, faults)) is None:
            continue
        try:
            root = parse(read(file))
        except ValueError:
            faults.add(Fault.MALFORMED, file.name)
            continue
        if _names_another(root, name):
            faults.add(Fault.OTHER_NAME, file.name)
        written = [root.findtext(f"size/{side}") for side in ("height", "width")]
        check_written([_number(one) for one in written], size, file.name, faults)
        yield _Annotated(image, size, list(_things(root, file.name, faults)))


def _things(root: Element, where: str, faults: Faults) -> Iterator[tuple[str, list[str | None], bool]]:
    """Class, corners and whether it is difficult, of every object; not of its parts."""
    for thing in root.findall("object"):
        label = one_line(thing.findtext("name") or "")
        if not label:
            faults.add(Fault.UNKNOWN_CLASS, where)
            continue
        corners = [thing.findtext(f"bndbox/{corner}") for corner in ("xmin", "ymin", "xmax", "ymax")]
        yield label, corners, (thing.findtext("difficult") or "0").strip() not in ("0", "")


def _samples(part: list[_Annotated], numbers: dict[str, int], faults: Faults) -> list[Sample]:
    return [
        Sample(file, target_of(_numbered(things, numbers), size, file.name, faults, inclusive=True), size)
        for file, size, things in part
    ]


def _numbered(things: list[tuple[str, list[str | None], bool]], numbers: dict[str, int]) -> Iterator[Thing]:
    for label, corners, difficult in things:
        yield Thing(numbers[label], corners, difficult)


def _names_another(root: Element, name: str) -> bool:
    """Whether ``filename`` or ``path`` name another image; a suffix, or folders before it, do not matter."""
    written = [(root.findtext(tag) or "").strip() for tag in ("filename", "path")]
    lasts = [re.split(r"[/\\]", one)[-1] for one in written if one]
    return any(name not in (last, Path(last).stem) for last in lasts)


def _number(text: str | None) -> float | str | None:
    """A text as a number where it is one."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def parse(data: bytes) -> Element:
    """The root of an XML file; ``ValueError`` where it is none, or has a DTD, by which it could grow without end."""
    parser, builder = expat.ParserCreate(), TreeBuilder()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = builder.start, builder.end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = builder.data, _refuse
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, LookupError) as error:  # LookupError: an encoding that nobody knows
        raise ValueError(in_words(error)) from error
    return builder.close()


def _refuse(*doctype: object) -> None:
    raise ValueError("it has a DTD, which annotations have not")
