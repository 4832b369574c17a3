"""Which data a run was trained on, in a few hundred bytes of JSON: so that two runs can be told to have had the same.

Nothing here depends on the machine, the number of threads, or where the data lie. Images in memory are known by their
pixels, which a JPEG decoder of another version may give other values; files on disk by their bytes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from filtersmith.lab.data.decode import read
from filtersmith.lab.data.records import Data, FileSet, ImageSet, shape_text
from filtersmith.lab.data.transforms import CENTRE

FORMAT = 1
"""Of what is digested; fingerprints of different formats are not compared."""

SAMPLE = 1000
"""Images of a split whose pixels (or bytes) are digested, spread evenly over it."""

_SHOWN = 10  # names of classes that are kept in words; the others only in the digest
_SPLITS = ("train", "test", "held_out")


def fingerprint(data: Data) -> dict[str, Any]:
    """Names of the classes, sizes of the splits, digests of all labels and of a sample of the images.

    Args:
        data: As it is trained on: with what is held out of it, and limited.

    Returns:
        Plain values for JSON, to be compared by `difference`.
    """
    splits = {name: part for name in _SPLITS if (part := getattr(data, name)) is not None}
    on_disk = {} if isinstance(data.train, ImageSet) else {"centre": CENTRE}
    return {
        "format": FORMAT,
        **on_disk,
        "classes": len(data.classes),
        "class_names": list(data.classes[:_SHOWN]),
        "class_digest": digest(name.encode(errors="surrogateescape") for name in data.classes),
        "shape": [data.train.channels, *data.train.height_width],
        "splits": {name: _split(part) for name, part in splits.items()},
    }


def difference(old: dict[str, Any], new: dict[str, Any]) -> str | None:
    """The first thing that tells two fingerprints apart: ``the train split has 100 images there and 90 here``.

    ``None`` where they are of the same data, or were not made alike and so can't be compared.
    """
    if old.get("format") != new.get("format"):
        return None
    if old.get("classes") != new.get("classes"):
        return f"there are {old.get('classes')} classes there and {new.get('classes')} here"
    for number, (left, right) in enumerate(zip(old.get("class_names", ()), new.get("class_names", ()), strict=False)):
        if left != right:
            return f"class {number} is {left!r} there and {right!r} here"
    if old.get("class_digest") != new.get("class_digest"):
        return "the classes have other names there and here"
    if old.get("shape") != new.get("shape"):
        return f"images are {_shape(old.get('shape'))} there and {_shape(new.get('shape'))} here"
    if old.get("centre") != new.get("centre"):
        shares = [f"{100 * one.get('centre', 1):g}%" for one in (old, new)]
        return f"images are tested on their centre, {shares[0]} of the short side there and {shares[1]} here"
    for name in _SPLITS:
        pair = [one.get("splits", {}).get(name) for one in (old, new)]
        if pair[0] != pair[1]:
            return _split_difference("held-out" if name == "held_out" else name, *pair)
    return None


def _split(part: ImageSet | FileSet) -> dict[str, Any]:
    labels = digest([part.labels.cpu().numpy().astype("<i8").tobytes()])
    facts: dict[str, Any] = {"images": len(part), "labels": labels}
    if isinstance(part, ImageSet):
        pixels = part.images[_sample(len(part))].permute(0, 2, 3, 1).contiguous().cpu().numpy()
        return {**facts, "pixels": digest([pixels.tobytes()])}
    return {**facts, "files": digest(names_and_sizes(part.files)), "bytes": digest(sampled(part.files))}


def _sample(count: int) -> Tensor:
    """Numbers below ``count``, spread evenly, `SAMPLE` at most."""
    return torch.linspace(0, count - 1, min(SAMPLE, count), dtype=torch.float64).round().long()


def sampled(files: Sequence[Path]) -> Iterable[bytes]:
    """The contents of some of the files; ``ValueError`` for one that cannot be read."""
    return (read(files[row]) for row in _sample(len(files)).tolist())


def names_and_sizes(files: Iterable[Path]) -> Iterable[bytes]:
    """Of every file, below the folder that holds them all; ``ValueError`` for one that cannot be read."""
    names = [os.fspath(file) for file in files]
    above = os.path.join(os.path.commonpath({os.path.dirname(name) for name in names}), "") if names else ""
    for name in names:
        try:
            size = os.stat(name).st_size
        except OSError as error:
            raise ValueError(f"{name} cannot be read: {error.strerror}") from error
        yield f"{name.removeprefix(above)}\n{size}".replace(os.sep, "/").encode(errors="surrogateescape")


def digest(parts: Iterable[bytes]) -> str:
    """16 hexadecimal digits of all parts; where one ends and the next begins counts, too."""
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "little"))
        found.update(part)
    return found.hexdigest()[:16]


def _split_difference(name: str, old: dict[str, Any] | None, new: dict[str, Any] | None) -> str:
    counts = [one["images"] if one else 0 for one in (old, new)]
    if counts[0] != counts[1] or not old or not new:
        return f"the {name} split has {counts[0]:,} images there and {counts[1]:,} here"
    if old["labels"] != new["labels"]:
        return f"the {name} split has other labels there and here"
    if "files" in old and "files" in new and old["files"] != new["files"]:
        return f"the {name} split has files of other names or sizes there and here"
    decoder = " (other images, or another version of the decoder)" if "pixels" in old and "pixels" in new else ""
    return f"the {name} split has other images there and here{decoder}"


def _shape(shape: Any) -> str:
    return shape_text(tuple(shape)) if shape else "of no size"
