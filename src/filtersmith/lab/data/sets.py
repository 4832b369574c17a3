"""Data sets by name: ``load("digits")``, ``load("cifar10")``, ``load("hf:PATH_OR_ID")``."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from filtersmith.common.options import bad_option, unknown_name
from filtersmith.common.words import plural
from filtersmith.lab.data.files import shortened
from filtersmith.lab.data.records import Augment, Data, FileSet, ImageSet, validate
from filtersmith.lab.data.sources import SOURCES, names

__all__ = ["SOURCES", "Augment", "Data", "FileSet", "ImageSet", "load", "names", "validate"]


def load(name: str, *, root: str | None = None, image_size: int | None = None, label: str | None = None) -> Data:
    """Load and check a data set.

    Args:
        name: One of ``names()``, with the path or id filled in.
        root: Folder of cifar10, cifar100 and svhn; default: the environment's FILTERSMITH_DATA, else ``data``.
        image_size: Resize each image's short side to this many pixels and crop its centre; default: leave
            the images as they are.
        label: Column of the labels in parquet; default: the one that is certain.

    Raises:
        ValueError: One line that names what is wrong: the name, a path, a file, a label.
    """
    if image_size is not None and (not isinstance(image_size, int) or image_size < 1):
        raise bad_option("data.image_size", image_size, "a whole number of pixels >= 1")
    kind, colon, where = name.partition(":")
    if kind in ("imagefolder", "hf"):
        if not where:
            raise bad_option("data", name, f"{kind}: followed by {'a path' if kind[0] == 'i' else 'a path or id'}")
        if kind == "imagefolder":
            _check_no_label(name, label)
            from filtersmith.lab.data.folder import load_folder

            return _checked(load_folder(name, where, image_size))
        from filtersmith.lab.data.hub import load_hub

        return _checked(load_hub(name, where, image_size, label))
    if colon or name not in SOURCES:
        if os.path.exists(name):
            raise bad_option("data", name, f"imagefolder:{name} or hf:{name} to read that path")
        raise unknown_name("data", name, names())
    _check_no_label(name, label)
    from filtersmith.lab.data.builtin import load_digits, load_torchvision

    if name == "digits":
        return validate(load_digits(image_size))
    return validate(load_torchvision(name, str(place(root)), image_size))


def place(root: str | None) -> Path:
    """Folder of what is downloaded or made and kept: ``data.root``, else the environment's, else ``data``."""
    return Path(root or os.environ.get("FILTERSMITH_DATA") or "data")


def _check_no_label(name: str, label: str | None) -> None:
    if label is not None:
        raise ValueError(f"data.label={label} names a column of hf:PATH_OR_ID; {name} has none, so leave it out")


def _checked(data: Data) -> Data:
    """The data of a user, validated, with a note about classes that a split has no images of."""
    notes = list(validate(data).notes)
    for split, part in (("training", data.train), ("test", data.test)):
        counts = part.labels.bincount(minlength=data.num_classes).tolist()
        absent = [name for name, count in zip(data.classes, counts, strict=True) if not count]
        if absent:
            of = plural(len(absent), "class", "classes")
            notes.append(f"there are no {split} images of {of}: {shortened(absent, 4)}")
    return replace(data, notes=tuple(notes))
