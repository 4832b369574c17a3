"""Image sets in parquet, as the Hugging Face hub lays them out: a folder, one file, or a hub id.

A local set is read from the user's files and nothing is copied to a cache, so that two processes can load it
at once and the folder may be read-only. A hub id goes through the hub's own cache.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from filtersmith.lab.data.decode import need, stack
from filtersmith.lab.data.defaults import augment_for, title_of
from filtersmith.lab.data.records import Data, ImageSet, check_labels
from filtersmith.lab.data.split import stratified_split

_BLOCK = 1000  # rows read at a time
_SPLITS = {"train": "train", "test": "test", "validation": "validation", "valid": "validation", "val": "validation"}
_UNNAMED = "unnamed"  # the split of files that name none; alone, they are all for training


@dataclass(frozen=True)
class _Columns:
    image: str
    label: str
    classes: tuple[str, ...] | None  # None: plain integers without names


@dataclass(frozen=True)
class _Part:
    """One parquet file, or one split from the hub: its rows come in blocks of the asked columns."""

    name: str
    features: Any  # datasets.Features
    blocks: Callable[[list[str]], Iterable[Any]]  # pyarrow tables or record batches


def load_hub(name: str, place: str, image_size: int | None) -> Data:
    """Read ``hf:place``; ``name`` is what the user typed."""
    need("datasets").disable_progress_bars()
    splits = _local(name, place) if Path(place).expanduser().exists() else _remote(name, place)
    train_split = splits.get("train")
    if train_split is None:
        raise ValueError(f"{name} has no training split, only {', '.join(splits)}")
    columns = _columns(train_split[0].features, name)
    train = _read(train_split, columns, f"{name}: train", image_size)
    title = title_of(place)
    test_name = next((split for split in ("test", "validation") if split in splits), None)
    if test_name:
        test_split = splits[test_name]
        if _columns(test_split[0].features, name) != columns:
            raise ValueError(f"{name}: the train and {test_name} splits have different columns or class names")
        test = _read(test_split, columns, f"{name}: {test_name}", image_size)
    else:
        classes = columns.classes or _numbered(train.labels)
        check_labels(train.labels, len(classes), f"{name}: the train split")
        keep, out = stratified_split(train.labels, name)
        train, test = (ImageSet(train.images[rows], train.labels[rows]) for rows in (keep, out))
        title += " (held-out 20%)"
    classes = columns.classes or _numbered(train.labels)
    return Data(name, title, train, test, classes, augment_for(place, min(train.height_width)))


def _local(name: str, place: str) -> dict[str, list[_Part]]:
    path = Path(place).expanduser()
    files = [path] if path.is_file() else []
    for pattern in ("*.parquet", "data/*.parquet", "*/*.parquet"):
        files = files or sorted(path.glob(pattern))
    if not files:
        raise ValueError(f"{name}: no parquet file (like train-00000-of-00001.parquet) in {path}")
    sets = sorted({file.parent.name for file in files if file.parent.name not in _SPLITS})
    if len(sets) > 1:
        raise ValueError(f"{name} holds several sets, {', '.join(sets)}; choose one, as in hf:{path / sets[0]}")
    grouped: dict[str, list[_Part]] = {}
    for file in files:
        grouped.setdefault(_split_of(file), []).append(_open(file))
    if set(grouped) == {_UNNAMED}:
        grouped["train"] = grouped.pop(_UNNAMED)
    return grouped


def _split_of(file: Path) -> str:
    found = re.match(r"(train|test|validation|valid|val)(?![a-z])", file.stem)
    return _SPLITS[found[1]] if found else _SPLITS.get(file.parent.name, _UNNAMED)


def _open(file: Path) -> _Part:
    parquet = need("pyarrow.parquet")  # comes with datasets, whose own reader would copy the set to a cache
    try:
        opened = parquet.ParquetFile(file)
        features = need("datasets").Features.from_arrow_schema(opened.schema_arrow)
    except (OSError, ValueError) as error:  # pyarrow's own errors are among these
        raise ValueError(f"{file} cannot be read as parquet: {_line(error)}") from error
    return _Part(str(file), features, lambda columns: opened.iter_batches(_BLOCK, columns=columns))


def _remote(name: str, place: str) -> dict[str, list[_Part]]:
    if place.startswith((".", "/", "~")) or place.count("/") > 1 or place.endswith(".parquet"):
        raise ValueError(f"{name}: there is no file or folder {place}")
    try:
        loaded = need("datasets").load_dataset(place)
    except Exception as error:  # the hub's client raises a dozen kinds
        raise ValueError(
            f"{name}: {place} is no file or folder here, and the Hugging Face hub did not give it: {_line(error)}"
        ) from error
    return {_SPLITS.get(split, split): [_hub_part(f"{place} ({split})", part)] for split, part in loaded.items()}


def _hub_part(name: str, part: Any) -> _Part:
    return _Part(name, part.features, lambda columns: part.select_columns(columns).with_format("arrow").iter(_BLOCK))


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


def _read(parts: Sequence[_Part], columns: _Columns, where: str, image_size: int | None) -> ImageSet:
    images: list[bytes] = []
    labels: list[int] = []
    for part in parts:
        for row, (image, label) in enumerate(_rows(part, columns)):
            if label is None or image is None:
                missing = columns.label if label is None else columns.image
                raise ValueError(f"{part.name}: row {row} has no {missing!r}")
            images.append(image)
            labels.append(label)
    if not images:
        raise ValueError(f"{where} split has no images")
    targets = torch.tensor(labels, dtype=torch.int64)
    if columns.classes:  # before the images: a wrong label should not cost a minute of decoding
        check_labels(targets, len(columns.classes), f"{where} split, column {columns.label!r},")
    return ImageSet(stack(images, len(images), lambda row: f"{where} image {row}", image_size), targets)


def _rows(part: _Part, columns: _Columns) -> Iterator[tuple[bytes | None, int | None]]:
    try:
        for block in part.blocks([columns.image, columns.label]):
            images, labels = (block[column].to_pylist() for column in (columns.image, columns.label))
            yield from zip(map(_bytes, images), labels, strict=True)
    except (OSError, ValueError) as error:  # pyarrow's word for damage inside the file
        raise ValueError(f"{part.name} cannot be read: {_line(error)}") from error


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
