"""What a person should see of a set of questions, and what tells two of them apart."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from filtersmith.common.words import plural
from filtersmith.lab.data.decode import read
from filtersmith.lab.data.files import shortened
from filtersmith.lab.data.fingerprint import FORMAT, SAMPLE
from filtersmith.lab.tasks.vqa.records import QuestionSet, VqaData

_SHOWN = 10  # answers that are shown, and kept in words
_SPLITS = ("train", "test", "held_out")


def describe(data: VqaData) -> list[str]:
    """Lines about the answers, the questions of each type, their words and images, and what was noted."""
    kinds = [
        f"{what} {', '.join(f'{kind} {count:,}' for kind, count in sorted(Counter(part.kinds).items()))}"
        for what, part in (("training", data.train), ("test", data.test), ("held-out", data.held_out))
        if part is not None
    ]
    images = f"{plural(len(data.train.files), 'image')} to train and {len(data.test.files):,} to test on"
    return [
        f"{plural(len(data.answers), 'answer')} to choose from: {shortened(data.answers, _SHOWN)}",
        f"questions of each answer type: {'; '.join(kinds)}",
        f"{plural(len(data.words), 'word')}, at most {data.train.longest} in a question; {images}",
        *(f"note: {note}" for note in data.notes),
    ]


def fingerprint(data: VqaData) -> dict[str, Any]:
    """Names of the answers, sizes of the splits, digests of all questions and labels and of a sample of the images.

    Returns:
        Plain values for JSON, with the keys that `filtersmith.lab.data.fingerprint.difference` compares; what it
        calls images of a split are its questions here.
    """
    splits = {name: part for name in _SPLITS if (part := getattr(data, name)) is not None}
    return {
        "format": FORMAT,
        "classes": len(data.answers),
        "class_names": list(data.answers[:_SHOWN]),
        "class_digest": digest(_bytes(data.answers)),
        "shape": [data.channels, data.image_size, data.image_size],
        "words": digest(_bytes(data.words)),
        "splits": {name: _split(part) for name, part in splits.items()},
    }


def image_digest(files: Sequence[Path]) -> str:
    """Of every image's name, below the folder that holds them all, and of its size in bytes.

    Raises:
        ValueError: a file that cannot be read.
    """
    return digest(_names_and_sizes(files))


def digest(parts: Iterable[bytes]) -> str:
    """16 hexadecimal digits of all parts; where one ends and the next begins counts, too."""
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "little"))
        found.update(part)
    return found.hexdigest()[:16]


def _split(part: QuestionSet) -> dict[str, Any]:
    tensors = (part.label, part.image, part.tokens, part.lengths, part.ids)
    people = ("\n".join(answers) for answers in part.answers)
    files = len(part.files)
    rows = torch.linspace(0, files - 1, min(SAMPLE, files), dtype=torch.float64).round().long()
    return {
        "images": len(part),
        "labels": digest([*(one.numpy().astype("<i8").tobytes() for one in tensors), *_bytes(people)]),
        "files": image_digest(part.files),
        "bytes": digest(read(part.files[row]) for row in rows.tolist()),
    }


def _bytes(texts: Iterable[str]) -> Iterable[bytes]:
    return (text.encode(errors="surrogatepass") for text in texts)


def _names_and_sizes(files: Sequence[Path]) -> Iterable[bytes]:
    above = os.path.commonpath([file.parent for file in files]) if files else ""
    for file in files:
        try:
            size = file.stat().st_size
        except OSError as error:
            raise ValueError(f"{file} cannot be read: {error.strerror}") from error
        yield f"{file.relative_to(above).as_posix()}\n{size}".encode(errors="surrogateescape")
