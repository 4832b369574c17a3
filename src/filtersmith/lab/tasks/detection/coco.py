"""Boxes in the layout of COCO: ``annotations/instances_train2017.json`` and ``instances_val2017.json``.

Tested is on ``instances_test*.json`` where it is there and has boxes, else on ``instances_val*.json``. The images of
``instances_train2017.json`` lie in ``train2017``, ``images/train2017``, ``train``, ``images/train``, ``images`` or
beside ``annotations``. Numbers of categories are any whole numbers; their order is that of the classes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from filtersmith.common.words import in_words, one_line
from filtersmith.lab.data.decode import read
from filtersmith.lab.data.files import shortened
from filtersmith.lab.data.splits import TEST, TRAIN, VALIDATION, split_of
from filtersmith.lab.tasks.detection.boxes import Thing, check_written, real_size, target_of
from filtersmith.lab.tasks.detection.faults import Fault, Faults
from filtersmith.lab.tasks.detection.records import Layout, Sample

_PREFIX = "instances_"
_EXPECTED = "annotations/instances_train2017.json and annotations/instances_val2017.json"
_LOOKED_FOR = 50  # images by which the folder of a split is found


class _File(NamedTuple):
    """One file of annotations, its records checked."""

    file: Path
    images: dict[int | str, dict[str, Any]]
    boxes: list[dict[str, Any]]
    categories: dict[int, str]


def read_coco(name: str, path: Path, faults: Faults) -> Layout:
    """Read a folder of COCO.

    Args:
        name: What the user typed.
        path: Holds ``annotations`` and the folders of images.
        faults: Where what is skipped is counted.

    Raises:
        ValueError: A file or the images of a split are missing, a file is malformed, images are in it twice, or
            the two files have other categories.
    """
    files, notes = _files(name, path)
    train, test = (_read(file) for file in files)
    if train.categories != test.categories:
        raise ValueError(f"{name}: {_difference(train, test)}")
    numbers = {category: number for number, category in enumerate(train.categories, 1)}
    samples = [list(_samples(one, _folder(name, path, one), numbers, faults)) for one in (train, test)]
    return Layout(samples[0], samples[1], tuple(train.categories.values()), tuple(notes))


def _files(name: str, path: Path) -> tuple[tuple[Path, Path], list[str]]:
    """The file to train on and that to test on, and what is to be said about it."""
    found = sorted((path / "annotations").glob(f"{_PREFIX}*.json"))
    by_split = {
        split: [one for one in found if split_of(_suffix(one)) == split] for split in (TRAIN, TEST, VALIDATION)
    }
    used = by_split[TEST] or by_split[VALIDATION]
    for files, purpose in ((by_split[TRAIN], "train on"), (used, "test on")):
        if not files:
            there = f"; there are {shortened([one.name for one in found], 4)}" if found else ""
            raise ValueError(f"{name}: {path} has no file to {purpose} (expected {_EXPECTED}){there}")
        if len(files) > 1:
            raise ValueError(
                f"{name}: {path / 'annotations'} has several files to {purpose}, "
                f"{', '.join(one.name for one in files)}: keep one of them there"
            )
    chosen = by_split[TRAIN][0], used[0]
    notes = [f"trained on the images of {chosen[0].name}, tested on those of {chosen[1].name}"]
    if others := [one.name for one in found if one not in chosen]:
        notes.append(f"files of annotations that are not read: {shortened(others, 4)}")
    return chosen, notes


def _suffix(file: Path) -> str:
    """``train2017`` of ``instances_train2017.json``."""
    return file.stem.removeprefix(_PREFIX)


def _read(file: Path) -> _File:
    try:
        content = json.loads(read(file))
    except (ValueError, RecursionError) as error:
        message = in_words(error)
        raise ValueError(message if str(file) in message else f"{file} is no JSON: {message}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds no object of images, annotations and categories")
    categories: dict[int, str] = {}
    for where, one in _records(file, content, "categories"):
        number, title = one.get("id"), one.get("name")
        if not isinstance(number, int) or not isinstance(title, str) or not title.strip():
            raise ValueError(f"{where} needs a whole number 'id' and a text 'name'")
        if re.search(r"[\x00-\x1f\ud800-\udfff]", title):  # nor could it stand in results
            raise ValueError(f"{where} has a name that can't be printed, {title!a}")
        if categories.setdefault(number, one_line(title)) != one_line(title):
            raise ValueError(f"{where} has the id {number} of another category, {categories[number]}")
    if twice := [title for title in categories.values() if list(categories.values()).count(title) > 1]:
        raise ValueError(f"{file} has several categories called {twice[0]}")
    boxes = [one for _, one in _records(file, content, "annotations")]
    return _File(file, _images(file, content), boxes, dict(sorted(categories.items())))


def _images(file: Path, content: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """Records of images by id; ``ValueError`` where two have one id or one file, as their boxes would be mixed up."""
    images: dict[int | str, dict[str, Any]] = {}
    ids: dict[str, int | str] = {}
    for where, one in _records(file, content, "images"):
        number, name = one.get("id"), one.get("file_name")
        if not isinstance(number, (int, str)) or not isinstance(name, str) or not name:
            raise ValueError(f"{where} needs an 'id' and a text 'file_name'")
        if number in images:
            raise ValueError(f"{where} has the id {number} of another image, {images[number]['file_name']}")
        if name in ids:
            raise ValueError(f"{file} has the image {name} twice, with the ids {ids[name]} and {number}")
        images[number], ids[name] = one, number
    return images


def _records(file: Path, content: dict[str, Any], key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a list, each with the place where it stands."""
    found = content.get(key)
    if not isinstance(found, list):
        raise ValueError(f"{file} has no list of {key}")
    for number, one in enumerate(found):
        where = f"{file}: {key}[{number}]"
        if not isinstance(one, dict):
            raise ValueError(f"{where} is no object")
        yield where, one


def _difference(train: _File, test: _File) -> str:
    """The first category by which two files differ."""
    for one, other in ((train, test), (test, train)):
        for number, title in one.categories.items():
            theirs = other.categories.get(number)
            if theirs != title:
                said = "has none of that id" if theirs is None else f"calls it {theirs}"
                return f"category {number} is {title} in {one.file.name}, but {other.file.name} {said}"
    raise AssertionError("they do not differ")


def _folder(name: str, path: Path, one: _File) -> Path:
    """Where the images of a file are: the folder that has the most of the first ones."""
    suffix = _suffix(one.file)
    short = re.sub(r"\d+$", "", suffix)
    places = [suffix, f"images/{suffix}", short, f"images/{short}", "images", ""]
    folders = list(dict.fromkeys(path / place for place in places))
    names = [image["file_name"] for image in list(one.images.values())[:_LOOKED_FOR]]
    if not names:
        raise ValueError(f"{name}: {one.file} lists no images")
    found = [sum((folder / image).is_file() for image in names) for folder in folders]
    if not any(found):
        raise ValueError(
            f"{name}: the images of {one.file.name}, like {one_line(names[0])}, are in none of "
            f"{', '.join(map(str, folders))}"
        )
    return folders[found.index(max(found))]


def _samples(one: _File, folder: Path, numbers: dict[int, int], faults: Faults) -> Iterator[Sample]:
    """The images of a file that can be read, with their boxes."""
    things: dict[int | str, list[Thing]] = {number: [] for number in one.images}
    for box in one.boxes:
        image, category = box.get("image_id"), box.get("category_id")
        if not isinstance(image, (int, str)) or image not in one.images:
            faults.add(Fault.UNKNOWN_IMAGE, one.file.name)
        elif not isinstance(category, int) or category not in numbers:
            faults.add(Fault.UNKNOWN_CLASS, one.images[image]["file_name"])
        else:
            things[image].append(Thing(numbers[category], _corners(box.get("bbox")), bool(box.get("iscrowd"))))
    for number, record in one.images.items():
        file = folder / record["file_name"]
        if (size := real_size(file, faults)) is None:
            continue
        check_written([record.get("height"), record.get("width")], size, file.name, faults)
        yield Sample(file, target_of(things[number], size, file.name, faults), size)


def _corners(box: Any) -> list[Any]:
    """x1, y1, x2, y2 of x, y, width, height; nothing where these are not numbers."""
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(one, (int, float)) for one in box):
        return []
    try:
        x, y, width, height = map(float, box)
    except OverflowError:  # a whole number of hundreds of digits
        return []
    return [x, y, x + width, y + height]
