"""Which columns of a table hold the images and the labels, and what the labels' classes are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from filtersmith.lab.data.decode import need
from filtersmith.lab.data.records import check_labels

MOST_CLASSES = 100_000
"""Classes that a column of labels may have."""

_IMAGES = ("image", "img")
_LABELS = ("label", "labels", "class", "classes", "target", "targets", "category")
"""What columns are called that need no further question, in small or capital letters."""


@dataclass(frozen=True)
class Columns:
    """The two columns that are read.

    Args:
        image: Name of the column of images.
        label: Name of the column of labels.
        kind: Of the labels: ``names`` (whole numbers with a name each), ``numbers`` or ``texts``.
        names: The classes, where the column says them.
    """

    image: str
    label: str
    kind: str
    names: tuple[str, ...] | None = None


def find_columns(features: Any, name: str, label: str | None) -> Columns:
    """The columns of images and labels.

    Certain are: the only column of images, or the one called image or img. Of labels the one that the option
    ``data.label`` names; else the only one whose numbers have names and that is called label, class, target or the
    like; else the only one of which either is true.

    Args:
        features: Of ``datasets``: name of each column -> its type.
        name: What the user typed, for errors.
        label: The option ``data.label``.

    Raises:
        ValueError: Nothing is certain; all columns are listed.
    """
    datasets = need("datasets")
    listed = ", ".join(f"{column} ({_type_name(feature)})" for column, feature in features.items())
    images = [one for one, kind in features.items() if isinstance(kind, datasets.Image) or _holds_bytes(kind)]
    usual = [one for one in images if one.lower() in _IMAGES]
    if len(images) != 1 and len(usual) != 1:
        found = f"{len(images)} image columns, {', '.join(images)}: keep one of them" if images else "no image column"
        raise ValueError(f"{name} has {found}; its columns are {listed}")
    image = images[0] if len(images) == 1 else usual[0]
    kinds = {one: kind for one, feature in features.items() if (kind := _label_kind(feature))}
    if label is not None:
        if label not in features:
            raise ValueError(f"data.label must be a column of {name}, got {label!r}; its columns are {listed}")
        if label not in kinds:
            raise ValueError(
                f"data.label must be a column of class names, whole numbers or texts, got {label!r} "
                f"({_type_name(features[label])}); the columns of {name} are {listed}"
            )
        return _columns(image, label, features, kinds)
    named = [one for one, kind in kinds.items() if kind == "names"]
    usual = [one for one in kinds if one.lower() in _LABELS]
    likely = list(dict.fromkeys([*usual, *named]))
    both = [one for one in usual if one in named]
    certain = both if len(both) == 1 else likely
    if len(certain) == 1:
        return _columns(image, certain[0], features, kinds)
    if not kinds:
        raise ValueError(f"{name} has no column of labels; its columns are {listed}")
    found = f"{len(likely)} columns that could be the label" if likely else "no column that is the label by its name"
    ways = " or ".join(f"--set data.label={one}" for one in (likely or list(kinds))[:4])
    raise ValueError(f"{name} has {found}: say which, {ways}; its columns are {listed}")


def as_classes(
    columns: Columns, train: Sequence[Any], test: Sequence[Any] | None, name: str
) -> tuple[tuple[str, ...], Tensor, Tensor | None, list[str]]:
    """The classes, the class numbers of both splits, and what is to be said of them.

    Numbers without names and texts are sorted; each of them that the training split has is a class.

    Raises:
        ValueError: A label is out of range or not among those of the training split, or there are too many.
    """
    where = f"{name}: the {{}} split, column {columns.label!r},"
    if columns.names is not None:
        if len(columns.names) > MOST_CLASSES:
            raise ValueError(
                f"{name}: column {columns.label!r} has {len(columns.names):,} classes; {MOST_CLASSES:,} is the most"
            )
        numbers = [torch.tensor(labels, dtype=torch.int64) for labels in (train, test or ())]
        for split, one in zip(("train", "test"), numbers, strict=True):
            check_labels(one, len(columns.names), where.format(split))
        return columns.names, numbers[0], numbers[1] if test is not None else None, []
    values = sorted(set(train))
    if columns.kind == "numbers" and values and values[0] < 0:
        row = list(train).index(values[0])
        raise ValueError(
            f"{where.format('train')} has label {values[0]} (image {row}), but a class has a number >= 0"
        )
    if 2 * len(values) > len(train) or len(values) > MOST_CLASSES:
        raise ValueError(
            f"{where.format('train')} has {len(values):,} different values in {len(train):,} rows, which can't be "
            f"classes (two images for each at least, {MOST_CLASSES:,} classes at most); name another column with "
            "--set data.label=COLUMN"
        )
    place = {value: number for number, value in enumerate(values)}
    for row, value in enumerate(test or ()):
        if value not in place:
            raise ValueError(
                f"{where.format('test')} has label {value!r} (image {row}), which the train split never has"
            )
    notes = []
    if columns.kind == "numbers" and values[-1] != len(values) - 1:
        notes.append(
            f"the labels in column {columns.label!r} are {len(values):,} numbers from {values[0]} to {values[-1]}; "
            "each that occurs is a class"
        )
    numbers = [torch.tensor([place[value] for value in labels], dtype=torch.int64) for labels in (train, test or ())]
    return tuple(str(value) for value in values), numbers[0], numbers[1] if test is not None else None, notes


def _columns(image: str, label: str, features: Any, kinds: dict[str, str]) -> Columns:
    names = tuple(features[label].names) if kinds[label] == "names" else None
    return Columns(image, label, kinds[label], names)


def _label_kind(feature: Any) -> str | None:
    datasets = need("datasets")
    if isinstance(feature, datasets.ClassLabel):
        return "names"
    if not isinstance(feature, datasets.Value):
        return None
    if re.fullmatch(r"u?int\d+", feature.dtype):
        return "numbers"
    return "texts" if feature.dtype in ("string", "large_string") else None


def _holds_bytes(feature: Any) -> bool:
    return isinstance(feature, dict) and "bytes" in feature


def _type_name(feature: Any) -> str:
    datasets = need("datasets")
    if isinstance(feature, datasets.ClassLabel):
        return f"{len(feature.names)} named classes"
    return str(feature.dtype) if isinstance(feature, datasets.Value) else type(feature).__name__
