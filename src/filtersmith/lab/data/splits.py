"""Which split the name of a folder or a file means: ``training``, ``TEST``, ``val2014``, ``train-images``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

TRAIN, TEST, VALIDATION = "train", "test", "validation"

_SPLITS = {
    **dict.fromkeys(("train", "training", "trn", "trainval"), TRAIN),
    **dict.fromkeys(("test", "testing", "tst"), TEST),
    **dict.fromkeys(("val", "valid", "validation", "eval", "evaluation", "dev"), VALIDATION),
}
_FILLERS = ("data", "dataset", "set", "split", "image", "images", "img", "imgs", "folder", "part", "subset")
"""What may stand beside the word without another meaning, as may digits and single letters."""


def words(name: str) -> list[str]:
    """The words of a name, in small letters.

    >>> words("TrainImages_2014")
    ['train', 'images']
    """
    runs = re.findall(r"[^\W\d_]+", name)
    return [word.lower() for run in runs for word in re.sub(r"(?<=[a-z])(?=[A-Z])", " ", run).split()]


def split_of(name: str) -> str | None:
    """The split that a name means and nothing else, or ``None``.

    >>> split_of("Training_Set"), split_of("val2014"), split_of("test_tube")
    ('train', 'validation', None)
    """
    found = [split for word in words(name) if (split := _split_of_word(word))]
    rest = [word for word in words(name) if not _split_of_word(word) and word not in _FILLERS and len(word) > 1]
    return found[0] if len(found) == 1 and not rest else None


def splits_in(name: str) -> set[str]:
    """Every split that a word of the name means, whatever stands beside it.

    >>> splits_in("cifar10-train"), splits_in("cats")
    ({'train'}, set())
    """
    return {split for word in words(name) if (split := _split_of_word(word))}


def choose(folders: Mapping[str, Sequence[str]]) -> tuple[str, str | None, list[str]]:
    """Which folder to train on, which to test on, and what is to be said of one that is not used.

    Args:
        folders: The names for each split; at least one in all.

    Raises:
        ValueError: There is none to train on, or several for one split; the text follows the name of the folder.
    """
    train, test, validation = (list(folders[split]) for split in (TRAIN, TEST, VALIDATION))
    if not train:
        only = (test + validation)[0]
        raise ValueError(f"has a folder {only} but none called train; if {only} is a class, give it another name")
    used = test or validation
    for names, purpose in ((train, "training"), (used, "testing")):
        if len(names) > 1:
            raise ValueError(
                f"has several folders for {purpose}, {', '.join(names)}: keep one of them there, or make a folder of "
                "two links, train and test"
            )
    if not test and validation and any(word.startswith("trainval") for word in words(train[0])):
        raise ValueError(
            f"has {train[0]}, which by its name holds the images of {validation[0]}, too: name the folders train and "
            "test for what they are"
        )
    notes = []
    if test and validation:
        notes.append(f"{', '.join(validation)} is not used: {test[0]} is for testing")
    return train[0], used[0] if used else None, notes


def disguised(names: Iterable[str]) -> list[str]:
    """Names that look like splits of something although `split_of` knows none of them: ``cats_train``, ``cats_test``.

    So look two names that differ in the word alone, and names that all have such a word, if not all the same one:
    a ``test_tube`` among other classes is none, nor are a ``bullet_train`` and a ``freight_train``.
    """
    names = list(names)
    suspects = [name for name in names if splits_in(name)]
    if len(suspects) == len(names):
        return suspects if _several_splits(suspects) else []
    by_rest: dict[tuple[str, ...], list[str]] = {}
    for name in suspects:
        by_rest.setdefault(tuple(word for word in words(name) if not _split_of_word(word)), []).append(name)
    return [name for alike in by_rest.values() if _several_splits(alike) for name in alike]


def _several_splits(names: Iterable[str]) -> bool:
    return len(set().union(*map(splits_in, names))) > 1


def _split_of_word(word: str) -> str | None:
    if word in _SPLITS:
        return _SPLITS[word]
    stems = (word.removesuffix(filler) for filler in _FILLERS if word.endswith(filler))
    return next((_SPLITS[stem] for stem in stems if stem in _SPLITS), None)
