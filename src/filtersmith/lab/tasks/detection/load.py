"""Sets of images with boxes by name, how two of them are told apart, and what a person should see of one."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from filtersmith.common.options import bad_option, whole_number
from filtersmith.common.words import plural
from filtersmith.lab.data.decode import need
from filtersmith.lab.data.defaults import title_of
from filtersmith.lab.data.files import shortened
from filtersmith.lab.data.fingerprint import fingerprint as of_files
from filtersmith.lab.data.records import Data, FileSet, Sizes
from filtersmith.lab.tasks.detection.coco import read_coco
from filtersmith.lab.tasks.detection.faults import Fault, Faults
from filtersmith.lab.tasks.detection.records import DetectionData, DetectionSet, Layout
from filtersmith.lab.tasks.detection.voc import read_voc

READERS: dict[str, Callable[[str, Path, Faults], Layout]] = {"voc": read_voc, "coco": read_coco}
"""Layout -> what reads it."""

_SHOWN = 10  # names of classes


def load(name: str, *, image_size: int | None, limit: int | None, holdout: int = 0) -> DetectionData:
    """Load and check a set of images with boxes.

    Args:
        name: ``voc:PATH`` or ``coco:PATH``.
        image_size: Length in pixels that the short side of every image is scaled to; ``None`` leaves images as they
            are. Nothing is cropped.
        limit: Train on so many images, spread evenly over the training split; ``None``: on all of them.
        holdout: Training images that are held out of it, the same ones each time, for methods that choose by data.

    Raises:
        ValueError: One line that names what is wrong: the name, a path, a file, an option, or a split without boxes.
    """
    if image_size is not None and (isinstance(image_size, bool) or not isinstance(image_size, int) or image_size < 1):
        raise bad_option("data.image_size", image_size, "a whole number of pixels >= 1")
    path, reader = _place(name)
    need("PIL.Image")
    faults = Faults()
    layout = reader(name, path, faults)
    tested = {os.path.realpath(one.file) for one in layout.test}
    train = [one for one in layout.train if os.path.realpath(one.file) not in tested]
    for one in layout.train:
        if os.path.realpath(one.file) in tested:
            faults.add(Fault.IN_BOTH, one.file.name)
    notes = (*layout.notes, *faults.notes())
    splits = [DetectionSet.of(part, image_size) for part in (train, layout.test)]
    data = DetectionData(name, title_of(str(path)), splits[0], splits[1], layout.classes, notes)
    _check(data)
    data = _with_limit(_with_held_out(data, holdout), limit)
    _check(data)
    return replace(data, notes=(*notes, *_absent(data)))


def fingerprint(data: DetectionData) -> dict[str, Any]:
    """What tells two sets apart, in a few hundred bytes of JSON.

    To be compared by `filtersmith.lab.data.fingerprint.difference`. It has the classes, the numbers of images and
    boxes, and digests of the files' names, sizes and (of a sample) bytes; ``labels`` is the digest of all boxes with
    their classes, and ``shape`` is ``None`` where images are not scaled.
    """
    train, test = _as_files(data.train), _as_files(data.test)
    held_out = None if data.held_out is None else _as_files(data.held_out)
    found = of_files(Data(data.name, data.title, train, test, data.classes, None, held_out))
    if data.image_size is None:
        found["shape"] = None
    for split, facts in found["splits"].items():
        facts["boxes"] = sum(len(target) for target in getattr(data, split).targets)
    return found


def describe(data: DetectionData) -> list[str]:
    """Lines about images, their sizes, the boxes of each class, and what was noted while the set was read."""
    size = "" if data.image_size is None else f", short sides scaled to {plural(data.image_size, 'pixel')}"
    splits = {"training": data.train, "test": data.test, "held-out": data.held_out}
    there = {what: part for what, part in splits.items() if part is not None}
    *first, last = (f"{len(part):,} {what}" for what, part in there.items())
    sizes = Sizes.of(size for part in there.values() for size in part.sizes)
    heights, widths = (_range(*bounds) for bounds in (sizes.heights, sizes.widths))
    lines = [
        f"{', '.join(first)} and {last} images{size}, {plural(data.num_classes, 'class', 'classes')}",
        f"images are {widths} pixels wide and {heights} high",
        *(f"{what} boxes: {_by_class(part, data.classes)}" for what, part in there.items()),
    ]
    return lines + [f"note: {note}" for note in data.notes]


def _place(name: str) -> tuple[Path, Callable[[str, Path, Faults], Layout]]:
    """The folder that a name means, and what reads it."""
    kind, colon, place = name.partition(":")
    if not colon or kind not in READERS or not place:
        there = not colon and os.path.exists(name)
        raise bad_option(
            "data", name, f"voc:{name} or coco:{name} to read that path" if there else "voc:PATH or coco:PATH"
        )
    path = Path(place).expanduser()
    if not path.is_dir():
        raise ValueError(f"{name}: there is no folder {path}")
    return path, READERS[kind]


def _check(data: DetectionData) -> None:
    """Raise a one-line ValueError where a split has no images, or nothing in them."""
    for split, part in (("training", data.train), ("test", data.test)):
        if not len(part):
            raise ValueError(f"{data.name}: the {split} split has no images{_skipped(data)}")
        if not sum(part.boxes_by_class(data.num_classes)):
            images = plural(len(part), "image")
            raise ValueError(f"{data.name}: there are no boxes in the {images} of the {split} split{_skipped(data)}")


def _skipped(data: DetectionData) -> str:
    return f" ({'; '.join(data.notes)})" if data.notes else ""


def _with_held_out(data: DetectionData, count: int) -> DetectionData:
    if not whole_number("data.holdout", count, 0):
        return data
    if count >= len(data.train):
        raise bad_option("data.holdout", count, f"below the {len(data.train):,} training images")
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    kept, held = order[count:].sort().values.tolist(), order[:count].sort().values.tolist()
    return replace(data, train=data.train.part(kept), held_out=data.train.part(held))


def _with_limit(data: DetectionData, count: int | None) -> DetectionData:
    if count is None:
        return data
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= len(data.train):
        raise bad_option("data.limit", count, f"from 1 to the {len(data.train):,} training images")
    return replace(data, train=data.train.part(number * len(data.train) // count for number in range(count)))


def _absent(data: DetectionData) -> list[str]:
    """A line for each split that has no boxes of some classes."""
    lines = []
    for split, part in (("training", data.train), ("test", data.test)):
        counts = part.boxes_by_class(data.num_classes)
        absent = [name for name, count in zip(data.classes, counts, strict=True) if not count]
        if absent:
            of = plural(len(absent), "class", "classes")
            lines.append(f"there are no {split} boxes of {of}: {shortened(absent, 4)}")
    return lines


def _as_files(part: DetectionSet) -> FileSet:
    """The split as one of a classification, with all that is known of the boxes in place of labels."""
    rows = []
    for target, size in zip(part.targets, part.sizes, strict=True):
        boxes = target.boxes.cpu().contiguous().view(torch.int32).long()  # bit for bit
        labels = torch.stack([target.labels, target.ignored.long()], 1)
        rows += [torch.tensor([*size, len(target)]), torch.cat([boxes, labels], 1).flatten()]
    return FileSet(part.files, torch.cat(rows), part.size or 0)


def _by_class(part: DetectionSet, classes: tuple[str, ...]) -> str:
    counts = part.boxes_by_class(len(classes))
    texts = [f"{count:,} {name}" for name, count in zip(classes, counts, strict=True)]
    ignored = sum(int(target.ignored.sum()) for target in part.targets)
    empty = sum(not len(target) for target in part.targets)
    more = [f"{ignored:,} ignored"] if ignored else []
    more += [f"{plural(empty, 'image')} without a box"] if empty else []
    return "; ".join([shortened(texts, _SHOWN), *more])


def _range(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
