"""Folders of image files: PATH/train/CLASS/IMAGE with PATH/test (or val, valid, validation), or PATH/CLASS/IMAGE.

Small images are decoded into memory; large ones stay files and are decoded while training.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from filtersmith.lab.data.decode import MEMORY_LIMIT, need, read, stack, unequal
from filtersmith.lab.data.defaults import augment_for, title_of
from filtersmith.lab.data.records import Data, FileSet, ImageSet
from filtersmith.lab.data.split import stratified_split

LARGE = 96
"""Side in pixels above which images stay on disk."""

_TEST_NAMES = ("test", "val", "valid", "validation")


def load_folder(name: str, place: str, image_size: int | None) -> Data:
    """Read ``imagefolder:place``; ``name`` is what the user typed."""
    path = Path(place).expanduser()
    if not path.is_dir():
        raise ValueError(f"{name}: there is no folder {path}")
    title = title_of(place)
    test_path = next((path / test for test in _TEST_NAMES if (path / test).is_dir()), None)
    train_path = path / "train"
    if test_path and not train_path.is_dir():
        raise ValueError(f"{name}: {path} has a folder {test_path.name} but none called train")
    classes, files, labels = _listing(train_path if train_path.is_dir() else path)
    if test_path:
        test_classes, test_files, test_labels = _listing(test_path)
        if test_classes != classes:
            only = [*(set(classes) ^ set(test_classes))]
            raise ValueError(
                f"{name}: {train_path.name} and {test_path.name} must hold the same classes; only one of them has "
                f"{', '.join(sorted(only))}"
            )
        keep, out = torch.arange(len(files)), torch.arange(len(files), len(files) + len(test_files))
        files, labels = files + test_files, torch.cat([labels, test_labels])
    else:
        keep, out = stratified_split(labels, name)
        title += " (held-out 20%)"
    if size := _size_on_disk(files, image_size):
        on_disk = [FileSet(tuple(files[row] for row in rows), labels[rows], size) for rows in (keep, out)]
        return Data(name, title, on_disk[0], on_disk[1], classes, augment_for(place, size))
    # both splits at once: one grey or colour, one size
    images = stack(map(read, files), len(files), lambda number: str(files[number]), image_size)
    train, test = (ImageSet(images[rows], labels[rows]) for rows in (keep, out))
    return Data(name, title, train, test, classes, augment_for(place, min(train.height_width)))


def _listing(folder: Path) -> tuple[tuple[str, ...], tuple[Path, ...], Tensor]:
    """Class names, image files and their labels, all in alphabetical order."""
    datasets = need("torchvision.datasets.folder")
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not classes:
        raise ValueError(f"{folder} holds no class folders (expected {folder}/CLASS/IMAGE)")
    numbers = {name: number for number, name in enumerate(classes)}
    try:
        samples = datasets.make_dataset(str(folder), numbers, extensions=datasets.IMG_EXTENSIONS)
    except FileNotFoundError as error:
        raise ValueError(f"{folder}: {error}") from error
    labels = torch.tensor([label for _, label in samples], dtype=torch.int64)
    return tuple(classes), tuple(Path(file) for file, _ in samples), labels


def _size_on_disk(files: Sequence[Path], image_size: int | None) -> int | None:
    """The side of images that are too large for memory, else None; ValueError when it would have to be given."""
    height, width = (image_size, image_size) if image_size else _size(files[0])
    large = max(height, width) > LARGE or 3 * height * width * len(files) > MEMORY_LIMIT
    if not large:
        return None
    if not image_size:
        for file in files[1:]:
            if (other := _size(file)) != (height, width):
                raise ValueError(unequal(str(files[0]), (height, width), str(file), other))
        raise ValueError(
            f"{len(files):,} images of {width}x{height} pixels (like {files[0]}) are read from disk while training; "
            f"this needs their size: data.image_size={min(height, width)}"
        )
    return image_size


def _size(file: Path) -> tuple[int, int]:
    """Height and width from the file's header."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            return image.height, image.width
    except Exception as error:  # Pillow's plugins raise whatever their format's parser does
        raise ValueError(f"{file} cannot be read as an image: {' '.join(str(error).split())}") from error
