"""Image sets in parquet, as the Hugging Face hub lays them out: a folder, one file, or a hub id.

A local set is read from the user's files and nothing is copied to a cache, so that two processes can load it
at once and the folder may be read-only. A hub id goes through the hub's own cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from filtersmith.common.words import in_words
from filtersmith.lab.data.columns import Columns, as_classes, find_columns
from filtersmith.lab.data.decode import need, stack
from filtersmith.lab.data.defaults import augment_for, title_of
from filtersmith.lab.data.records import Data, ImageSet, Sizes
from filtersmith.lab.data.shards import find
from filtersmith.lab.data.split import stratified_split
from filtersmith.lab.data.splits import TEST, TRAIN, VALIDATION, split_of

_BLOCK = 1000  # rows read at a time


@dataclass(frozen=True)
class _Part:
    """One parquet file, or one split from the hub: its rows come in blocks of the asked columns."""

    name: str
    features: Any  # datasets.Features
    blocks: Callable[[list[str]], Iterable[Any]]  # pyarrow tables or record batches


def load_hub(name: str, place: str, image_size: int | None, label: str | None = None) -> Data:
    """Read ``hf:place``; ``name`` is what the user typed, ``label`` the column of labels that the user named."""
    need("datasets").disable_progress_bars()
    splits, notes = _local(name, place) if Path(place).expanduser().exists() else _remote(name, place)
    if TRAIN not in splits:
        raise ValueError(f"{name} has no training split, only {', '.join(splits)}")
    test_name = next((split for split in (TEST, VALIDATION) if split in splits), None)
    if TEST in splits and VALIDATION in splits:
        notes.append("the validation split is not used: the test split is for testing")
    columns = find_columns(splits[TRAIN][0].features, name, label)
    used = [TRAIN, test_name] if test_name else [TRAIN]
    for split in used:
        for part in splits[split]:
            if part is not splits[TRAIN][0] and _columns_of(part, name, label) != columns:
                raise ValueError(f"{name}: {part.name} has other columns or class names than {splits[TRAIN][0].name}")
    # labels before images: a wrong one should not cost a minute of decoding
    raw = [_labels(splits[split], columns, f"{name}: {split}") for split in used]
    classes, labels, test_labels, more = as_classes(columns, raw[0], raw[1] if test_name else None, name)
    notes += more
    images, sizes = _images(splits[TRAIN], columns, len(labels), f"{name}: train", image_size)
    title = title_of(place)
    if test_name and test_labels is not None:
        test_images, test_sizes = _images(splits[test_name], columns, len(test_labels), f"{name}: test", image_size)
        train, test = ImageSet(images, labels), ImageSet(test_images, test_labels)
        sizes = sizes and test_sizes and sizes.joined(test_sizes)
    else:
        keep, out = stratified_split(labels, name)
        train, test = (ImageSet(images[rows], labels[rows]) for rows in (keep, out))
        title += " (held-out 20%)"
    augment = augment_for(place, min(train.height_width))
    return Data(name, title, train, test, classes, augment, notes=tuple(notes), sizes=sizes)


def _columns_of(part: _Part, name: str, label: str | None) -> Columns | None:
    try:
        return find_columns(part.features, name, label)
    except ValueError:
        return None


def _local(name: str, place: str) -> tuple[dict[str, list[_Part]], list[str]]:
    files, notes = find(name, Path(place).expanduser())
    return {split: [_open(file) for file in several] for split, several in files.items()}, notes


def _open(file: Path) -> _Part:
    parquet = need("pyarrow.parquet")  # comes with datasets, whose own reader would copy the set to a cache
    try:
        opened = parquet.ParquetFile(file)
        features = need("datasets").Features.from_arrow_schema(opened.schema_arrow)
    except (OSError, ValueError) as error:  # pyarrow's own errors are among these
        raise ValueError(f"{file} cannot be read as parquet: {in_words(error)}") from error
    return _Part(str(file), features, lambda columns: opened.iter_batches(_BLOCK, columns=columns))


def _remote(name: str, place: str) -> tuple[dict[str, list[_Part]], list[str]]:
    if place.startswith((".", "/", "~")) or place.count("/") > 1 or place.endswith(".parquet"):
        raise ValueError(f"{name}: there is no file or folder {place}")
    try:
        loaded = need("datasets").load_dataset(place)
    except Exception as error:  # the hub's client raises a dozen kinds
        raise ValueError(
            f"{name}: {place} is no file or folder here, and the Hugging Face hub did not give it: {in_words(error)}"
        ) from error
    splits: dict[str, list[_Part]] = {}
    others = []
    for split, part in loaded.items():
        if (known := split_of(split)) is None:
            others.append(split)
        elif known in splits:
            raise ValueError(f"{name}: {split} and {splits[known][0].name} could both be the {known} split")
        else:
            splits[known] = [_hub_part(f"{place} ({split})", part)]
    return splits, [f"splits that are not read: {', '.join(others)}"] if others else []


def _hub_part(name: str, part: Any) -> _Part:
    return _Part(name, part.features, lambda columns: part.select_columns(columns).with_format("arrow").iter(_BLOCK))


def _labels(parts: Sequence[_Part], columns: Columns, where: str) -> list[Any]:
    """The values in the column of labels, none of them missing."""
    labels: list[Any] = []
    for part in parts:
        values = list(_column(part, columns.label))
        if (row := next((row for row, value in enumerate(values) if value in (None, "")), None)) is not None:
            raise ValueError(f"{part.name}: row {row} has no {columns.label!r}")
        labels += values
    if not labels:
        raise ValueError(f"{where} split has no images")
    return labels


def _images(
    parts: Sequence[_Part], columns: Columns, count: int, where: str, image_size: int | None
) -> tuple[Tensor, Sizes | None]:
    encoded = (image for part in parts for image in _encoded(part, columns.image))
    return stack(encoded, count, lambda row: f"{where} image {row}", image_size)


def _encoded(part: _Part, column: str) -> Iterator[bytes]:
    for row, image in enumerate(_column(part, column)):
        try:
            data = _bytes(image)
        except OSError as error:
            raise ValueError(f"{part.name}: row {row} names a file that cannot be read: {in_words(error)}") from error
        if data is None:
            raise ValueError(f"{part.name}: row {row} has no {column!r}")
        yield data


def _column(part: _Part, column: str) -> Iterator[Any]:
    try:
        for block in part.blocks([column]):
            yield from block[column].to_pylist()
    except (OSError, ValueError) as error:  # pyarrow's word for damage inside the file
        raise ValueError(f"{part.name} cannot be read: {in_words(error)}") from error


def _bytes(image: dict[str, Any] | None) -> bytes | None:
    if image is None:
        return None
    if image["bytes"] is not None:
        return bytes(image["bytes"])
    return Path(image["path"]).read_bytes() if image.get("path") else None
