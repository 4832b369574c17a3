"""Folders of image files: PATH/train/CLASS/IMAGE with PATH/test (or val, validation), or PATH/CLASS/IMAGE.

Split folders are known by any common name (see `filtersmith.lab.data.splits`). Where there are images for testing and
for validation, those for testing are used. Small images are decoded into memory; large ones stay files and are
decoded while training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from filtersmith.common.words import plural
from filtersmith.lab.data.decode import MEMORY_LIMIT, need, read, size_of, stack, unequal
from filtersmith.lab.data.defaults import augment_for, title_of
from filtersmith.lab.data.files import SUFFIXES, Skipped, folders_in, images_below, loose_images, shortened
from filtersmith.lab.data.names import Names
from filtersmith.lab.data.records import Data, FileSet, ImageSet, Sizes
from filtersmith.lab.data.split import stratified_split
from filtersmith.lab.data.splits import TEST, TRAIN, VALIDATION, choose, disguised, split_of, splits_in

LARGE = 96
"""Side in pixels above which images stay on disk."""

_ALL_IMAGES = {"images", "image", "img", "imgs", "jpegimages"}
_NO_CLASSES = _ALL_IMAGES | {"labels", "masks", "annotations", "imagesets"}
"""What folders are called that hold all images of a set, or what belongs to them; together they are no classes."""

_LOOKED_AT = 1000  # files whose size is looked at, where all would take long


@dataclass(frozen=True)
class _Listing:
    """The images of one split: names of the classes, files in order, their labels."""

    classes: tuple[str, ...]
    files: tuple[str, ...]
    labels: Tensor
    real: tuple[str, ...]  # what each file really is


def load_folder(name: str, place: str, image_size: int | None) -> Data:
    """Read ``imagefolder:place``; ``name`` is what the user typed."""
    path = Path(place).expanduser()
    if not path.is_dir():
        raise ValueError(f"{name}: there is no folder {path}")
    need("PIL.Image")
    title, skipped = title_of(place), Skipped(path)
    train_path, test_path, notes = _split_folders(name, path, skipped)
    listing = _listing(train_path, skipped)
    classes, files, labels = listing.classes, listing.files, listing.labels
    if test_path:
        test = _listing(test_path, skipped)
        _check_together(name, (train_path.name, listing), (test_path.name, test))
        keep, out = torch.arange(len(files)), torch.arange(len(files), len(files) + len(test.files))
        files, labels = files + test.files, torch.cat([labels, test.labels])
    else:
        notes += _alike_below(train_path, classes)
        keep, out = stratified_split(labels, name)
        title += " (held-out 20%)"
    remarks = (*notes, *skipped.notes())
    if size := _size_on_disk(files, image_size):
        on_disk = [FileSet(Names(files[row] for row in rows.tolist()), labels[rows], size) for rows in (keep, out)]
        augment, looked_at = augment_for(place, size), files[:: -(-len(files) // _LOOKED_AT)]
        before = Sizes.of(size_of(Path(file)) for file in looked_at)
        return Data(name, title, on_disk[0], on_disk[1], classes, augment, notes=remarks, sizes=before)
    # both splits at once: one grey or colour, one size
    images, sizes = stack((read(Path(file)) for file in files), len(files), lambda number: files[number], image_size)
    splits = [ImageSet(images[rows], labels[rows]) for rows in (keep, out)]
    augment = augment_for(place, min(splits[0].height_width))
    return Data(name, title, splits[0], splits[1], classes, augment, notes=remarks, sizes=sizes)


def _split_folders(name: str, path: Path, skipped: Skipped) -> tuple[Path, Path | None, list[str]]:
    """The folder to train on, that to test on if there is one, and what is to be said about the others."""
    folders = folders_in(path, skipped)
    by_split = {split: [one for one in folders if split_of(one) == split] for split in (TRAIN, TEST, VALIDATION)}
    if not any(by_split.values()):
        if alike := disguised(folders):
            raise ValueError(
                f"{name}: {shortened(alike, 4)} look like splits, not classes: call them train and test, or give the "
                "classes other names"
            )
        return path, None, []
    notes = []
    if len(by_split[TEST]) == 1 and by_split[VALIDATION] and not _has_classes(path / by_split[TEST][0]):
        unlabelled = by_split[TEST].pop()
        notes = [f"{unlabelled} has no class folders and is not used: {by_split[VALIDATION][0]} is for testing"]
    try:
        train, test, unused = choose(by_split)
    except ValueError as error:
        raise ValueError(f"{name}: {path} {error}") from None
    if test and _has_classes(path / train) and not _has_classes(path / test):
        raise ValueError(
            f"{name}: {test} has no class folders, so the classes of its images are not known: sort them into "
            f"{test}/CLASS, or give imagefolder:{path / train}, of which 20% are then held out for testing"
        )
    others = [one for one in folders if split_of(one) is None]
    if test is None and (hidden := [one for one in others if splits_in(one) & {TEST, VALIDATION}]):
        raise ValueError(f"{name}: is {hidden[0]} the split to test on? then call it test; else move it elsewhere")
    if others:
        notes.append(f"beside {train} there are folders that are not read: {shortened(others, 4)}")
    return path / train, path / test if test else None, notes + unused


def _listing(folder: Path, skipped: Skipped) -> _Listing:
    """Class names, image files and their labels, all in alphabetical order."""
    classes = folders_in(folder, skipped)
    _check_classes(folder, classes, skipped.root)
    skipped.no_class += [skipped.short(folder / file) for file in loose_images(folder)]
    files: list[str] = []
    real: list[str] = []
    labels: list[int] = []
    empty: list[str] = []
    place_of: dict[str, int] = {}
    for number, one in enumerate(classes):
        _check_no_splits_below(folder / one, alone=len(classes) == 1)
        found = images_below(folder / one, skipped)
        if not found:
            empty.append(one)
        for file, target in found.items():
            if (before := place_of.setdefault(target, number)) != number:
                raise ValueError(f"{file} is a link to an image of another class, {classes[before]}: {target}")
        files += found
        real += found.values()
        labels += [number] * len(found)
    if empty:
        raise ValueError(
            f"{folder}: there are no images ({' '.join(SUFFIXES)}) for the classes {shortened(empty, 4)}; move empty "
            f"class folders elsewhere{_deeper(folder, classes, skipped.root)}"
        )
    if len(classes) == 1:  # before an image is decoded
        raise ValueError(
            f"{folder} holds one class, {classes[0]}, but at least 2 are needed"
            f"{_deeper(folder, classes, skipped.root)}"
        )
    return _Listing(tuple(classes), tuple(files), torch.tensor(labels, dtype=torch.int64), tuple(real))


def _check_classes(folder: Path, classes: Sequence[str], root: Path) -> None:
    """Refuse folders that hold no class folders, and say what they look like instead."""
    expected = f"expected {folder}/CLASS/IMAGE"
    if not classes:
        loose = len(loose_images(folder))
        there = f"{loose:,} images and no class folders" if loose else "no class folders"
        raise ValueError(f"{folder} holds {there} ({expected}{_or_a_class(folder)})")
    if all(map(split_of, classes)):
        splits = f"{', '.join(classes)}, by name {'splits' if len(classes) > 1 else 'a split'} and no class"
        raise ValueError(f"{folder} holds {splits} ({expected}){_deeper(folder, classes, root)}")
    small = {one.lower() for one in classes}
    if {"annotations", "jpegimages"} <= small:
        raise ValueError(f"{folder} is laid out as Pascal VOC, with boxes and no class for each image ({expected})")
    if small <= _NO_CLASSES:
        others = shortened(classes, 4)
        raise ValueError(f"{folder} holds no class folders but {others} ({expected}){_deeper(folder, classes, root)}")


def _deeper(folder: Path, classes: Sequence[str], root: Path) -> str:
    """The question if the classes seem to be one level down: in the only folder, or in one called images."""
    likely = [folder / one for one in classes if len(classes) == 1 or one.lower() in _ALL_IMAGES]
    below = next((one for one in likely if _has_classes(one)), None)
    if below is None:
        return ""
    return f"; is it imagefolder:{below}?" if folder == root else f"; are the classes in {below}? move them up"


def _or_a_class(folder: Path) -> str:
    return f"; if {folder.name} is a class, give it another name" if split_of(folder.name) else ""


def _check_no_splits_below(folder: Path, *, alone: bool) -> None:
    """Refuse PATH/CLASS/train with PATH/CLASS/test: images to test on would be trained on."""
    splits = {split: one for one in folders_in(folder, Skipped(folder)) if (split := split_of(one))}
    if TRAIN in splits and len(splits) > 1:
        way_out = f"they belong above the classes, as in {folder.parent}/train/{folder.name}/IMAGE"
        if alone:
            way_out = f"is it imagefolder:{folder}?"
        raise ValueError(f"{folder} holds splits, {', '.join(sorted(splits.values()))}: {way_out}")


def _alike_below(folder: Path, classes: Sequence[str]) -> list[str]:
    """A note where all class folders hold the same folders: perhaps these are the classes, those parts of a set."""
    below = {tuple(folders_in(folder / one, Skipped(folder))) for one in classes}
    names = below.pop()
    if below or len(names) < 2 or any(loose_images(folder / one) for one in classes):
        return []
    same = f"the same folders, which are not read as classes: {shortened(names, 4)}"
    return [f"each of the classes {shortened(classes, 4)} holds {same}"]


def _check_together(name: str, train: tuple[str, _Listing], test: tuple[str, _Listing]) -> None:
    """Refuse splits of different classes, and those that links give the same images."""
    (train_name, training), (test_name, testing) = train, test
    if training.classes != testing.classes:
        only = sorted(set(training.classes) ^ set(testing.classes))
        raise ValueError(
            f"{name}: {train_name} and {test_name} must hold the same classes; only one of them has "
            f"{shortened(only, 8)}"
        )
    if same := set(training.real) & set(testing.real):
        raise ValueError(
            f"{name}: links make {plural(len(same), 'image')} of {train_name} part of {test_name}, "
            f"too, like {min(same)}"
        )


def _has_classes(folder: Path) -> bool:
    """Whether it holds folders that can be classes, not only one with all images or a split."""
    return any(one.lower() not in _NO_CLASSES and not split_of(one) for one in folders_in(folder, Skipped(folder)))


def _size_on_disk(files: Sequence[str], image_size: int | None) -> int | None:
    """The side of images that are too large for memory, else None; ValueError when it would have to be given."""
    height, width = (image_size, image_size) if image_size else size_of(Path(files[0]))
    large = max(height, width) > LARGE or 3 * height * width * len(files) > MEMORY_LIMIT
    if not large:
        return None
    if not image_size:
        for file in files[1:]:
            if (other := size_of(Path(file))) != (height, width):
                raise ValueError(unequal(files[0], (height, width), file, other))
        raise ValueError(
            f"{len(files):,} images of {width}x{height} pixels (like {files[0]}) are read from disk while training; "
            f"this needs their size: data.image_size={min(height, width)}"
        )
    return image_size
