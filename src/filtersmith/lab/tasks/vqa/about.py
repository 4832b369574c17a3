"""What a person should see of a set of questions, and what tells two of them apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from filtersmith.common.words import plural
from filtersmith.lab.data.files import shortened
from filtersmith.lab.data.fingerprint import FORMAT, digest, names_and_sizes, sampled
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


def _split(part: QuestionSet) -> dict[str, Any]:
    tensors = (part.label, part.image, part.tokens, part.lengths, part.ids)
    people = ("\n".join(answers) for answers in part.answers)
    return {
        "images": len(part),
        "labels": digest([*(one.numpy().astype("<i8").tobytes() for one in tensors), *_bytes(people)]),
        "files": digest(names_and_sizes(part.files)),
        "bytes": digest(sampled(part.files)),
    }


def _bytes(texts: Iterable[str]) -> Iterable[bytes]:
    return (text.encode(errors="surrogatepass") for text in texts)
