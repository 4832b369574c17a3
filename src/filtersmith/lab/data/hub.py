"""Image sets in parquet, as the Hugging Face hub lays them out: a folder, one file, or a hub id.

A local set is streamed from the user's files: nothing is copied to a cache, so that two processes can load
it at once and the folder may be read-only. A hub id goes through the hub's own cache.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from filtersmith.lab.data.decode import need, stack
from filtersmith.lab.data.records import Augment, Data, ImageSet, check_labels
from filtersmith.lab.data.split import held_out

_TITLES = {"cifar10-jpeg": "CIFAR-10 (JPEG)", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "svhn": "SVHN"}
_NO_FLIP = {"mnist", "svhn", "digits"}  # a mirrored digit is another digit
_SPLITS = {"train": "train", "test": "test", "validation": "validation", "valid": "validation", "val": "validation"}


@dataclass(frozen=True)
class _Columns:
    image: str
    label: str
    classes: tuple[str, ...] | None  # None: plain integers without names


def load_hub(name: str, place: str, image_size: int | None) -> Data:
    """Read ``hf:place``; ``name`` is what the user typed."""
    need("datasets").disable_progress_bars()
    splits = _local(name, place) if Path(place).expanduser().exists() else _remote(name, place)
    train_split = splits.get("train")
    if train_split is None:
        raise ValueError(f"{name} has no training split, only {', '.join(splits)}")
    columns = _columns(train_split.features, name)
    train = _read(train_split, columns, f"{name}: train", image_size)
    title = _TITLES.get(Path(place).name, Path(place).name)
    test_name = next((split for split in ("test", "validation") if split in splits), None)
    if test_name:
        test_split = splits[test_name]
        if _columns(test_split.features, name) != columns:
            raise ValueError(f"{name}: the train and {test_name} splits have different columns or class names")
        test = _read(test_split, columns, f"{name}: {test_name}", image_size)
    else:
        classes = columns.classes or _numbered(train.labels)
        check_labels(train.labels, len(classes), f"{name}: the train split")
        keep, out = held_out(train.labels, name)
        train, test = (ImageSet(train.images[rows], train.labels[rows]) for rows in (keep, out))
        title += " (held-out 20%)"
    classes = columns.classes or _numbered(train.labels)
    pad = max(1, train.height_width[0] // 8)
    flip = not any(word in Path(place).name.lower() for word in _NO_FLIP)
    return Data(name, title, train, test, classes, Augment(pad=pad, flip=flip))


@dataclass(frozen=True)
class _Split:
    """One split: its parts (file name, data set) in order, and the features of the first."""

    parts: tuple[tuple[str, Any], ...]

    @property
    def features(self) -> Any:
        return self.parts[0][1].features


def _local(name: str, place: str) -> dict[str, _Split]:
    path = Path(place).expanduser()
    files = [path] if path.is_file() else []
    for pattern in ("*.parquet", "data/*.parquet", "*/*.parquet"):
        files = files or sorted(path.glob(pattern))
    if not files:
        raise ValueError(f"{name}: no parquet file (like train-00000-of-00001.parquet) in {path}")
    grouped: dict[str, list[tuple[str, Any]]] = {}
    for file in files:
        grouped.setdefault(_split_of(file), []).append((file.name, _open(file)))
    if set(grouped) == {""}:  # files that name no split are all for training
        grouped["train"] = grouped.pop("")
    return {split: _Split(tuple(parts)) for split, parts in grouped.items()}


def _split_of(file: Path) -> str:
    for text in (file.stem, file.parent.name):
        found = re.match(r"(train|test|validation|valid|val)(?![a-z])", text)
        if found:
            return _SPLITS[found[1]]
    return ""


def _open(file: Path) -> Any:
    datasets = need("datasets")
    try:
        opened = datasets.load_dataset("parquet", data_files=[str(file)], split="train", streaming=True)
        return opened if opened.features is not None else opened._resolve_features()
    except Exception as error:
        raise ValueError(f"{file} cannot be read as parquet: {_line(error)}") from error


def _remote(name: str, place: str) -> dict[str, _Split]:
    if place.startswith((".", "/", "~")) or place.count("/") > 1 or place.endswith(".parquet"):
        raise ValueError(f"{name}: there is no file or folder {place}")
    try:
        loaded = need("datasets").load_dataset(place)
    except Exception as error:
        raise ValueError(
            f"{name}: {place} is no file or folder here, and the Hugging Face hub did not give it: {_line(error)}"
        ) from error
    return {_SPLITS.get(split, split): _Split(((split, part),)) for split, part in loaded.items()}


def _columns(features: Any, name: str) -> _Columns:
    """Which columns hold the image and the label, from their types; the usual names decide among several."""
    datasets = need("datasets")
    images, labels, numbers = [], [], []
    for column, feature in features.items():
        if isinstance(feature, datasets.Image) or (isinstance(feature, dict) and "bytes" in feature):
            images.append(column)
        elif isinstance(feature, datasets.ClassLabel):
            labels.append(column)
        elif isinstance(feature, datasets.Value) and re.fullmatch(r"u?int\d+", feature.dtype):
            numbers.append(column)
    image = _pick(images, ("image", "img"), "image", features, name)
    label = _pick(labels or numbers, ("label", "fine_label"), "class label (ClassLabel or integer)", features, name)
    return _Columns(image, label, tuple(features[label].names) if labels else None)


def _pick(found: Sequence[str], usual: Sequence[str], what: str, features: Any, name: str) -> str:
    if len(found) == 1:
        return found[0]
    for column in usual:
        if column in found:
            return column
    listed = ", ".join(f"{column} ({_type_name(feature)})" for column, feature in features.items())
    many = f"{len(found)} {what} columns, none of them called {' or '.join(usual)}" if found else f"no {what} column"
    raise ValueError(f"{name} has {many}; its columns are {listed}")


def _type_name(feature: Any) -> str:
    return str(getattr(feature, "dtype", None) or type(feature).__name__)


def _read(split: _Split, columns: _Columns, where: str, image_size: int | None) -> ImageSet:
    images: list[bytes] = []
    labels: list[int] = []
    for file, part in split.parts:
        for number, (image, label) in enumerate(_rows(part, columns, file)):
            if label is None or image is None:
                missing = columns.label if label is None else columns.image
                raise ValueError(f"{where}: row {number} of {file} has no {missing!r}")
            images.append(image)
            labels.append(label)
    if not images:
        raise ValueError(f"{where} split has no images")
    targets = torch.tensor(labels, dtype=torch.int64)
    if columns.classes:  # before the images: a wrong label costs no minute of decoding
        check_labels(targets, len(columns.classes), f"{where} split, column {columns.label!r},")
    return ImageSet(stack(images, len(images), lambda row: f"{where} image {row}", image_size), targets)


def _rows(part: Any, columns: _Columns, file: str) -> Iterator[tuple[bytes | None, int | None]]:
    try:
        for table in part.select_columns([columns.image, columns.label]).with_format("arrow").iter(1000):
            for image, label in zip(table[columns.image].to_pylist(), table[columns.label].to_pylist(), strict=True):
                yield _bytes(image), label
    except OSError as error:  # pyarrow's ArrowInvalid is a ValueError, its ArrowIOError an OSError
        raise ValueError(f"{file} cannot be read: {_line(error)}") from error


def _bytes(image: dict[str, Any] | None) -> bytes | None:
    if image is None:
        return None
    if image["bytes"] is not None:
        return bytes(image["bytes"])
    return Path(image["path"]).read_bytes() if image.get("path") else None


def _numbered(labels: Tensor) -> tuple[str, ...]:
    return tuple(str(number) for number in range(int(labels.max()) + 1))


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
