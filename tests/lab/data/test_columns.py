"""Which columns hold images and labels, by their types and names; what classes the labels are."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("datasets")

import datasets

from filtersmith.lab.data import columns as module
from filtersmith.lab.data.columns import Columns, as_classes, find_columns

KINDS: dict[str, Any] = {
    "image": datasets.Image(),
    "pets": datasets.ClassLabel(names=["cat", "dog"]),
    "int": datasets.Value("int64"),
    "byte": datasets.Value("uint8"),
    "text": datasets.Value("string"),
    "float": datasets.Value("float32"),
    "bytes": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")},
}


def features(text: str) -> dict[str, Any]:
    """``image:image label:int`` as the features of a table."""
    return {name: KINDS[kind] for name, kind in (column.split(":") for column in text.split())}


@pytest.mark.parametrize(
    ("table", "asked", "expected"),
    [
        ("img:image label:pets", None, ("img", "label", "names")),
        ("photo:bytes species:pets id:int", None, ("photo", "species", "names")),
        ("image:image thumb:image Label:int id:int", None, ("image", "Label", "numbers")),
        ("image:image target:byte", None, ("image", "target", "numbers")),
        ("image:image class:text caption:text", None, ("image", "class", "texts")),
        ("image:image label:pets colour:pets", None, ("image", "label", "names")),
        ("image:image label:pets class:text", None, ("image", "label", "names")),
        ("image:image coarse:pets fine:pets", "fine", ("image", "fine", "names")),
        ("image:image label:pets id:int", "id", ("image", "id", "numbers")),
        ("image:image caption:text", "caption", ("image", "caption", "texts")),
    ],
)
def test_what_is_certain(table: str, asked: str | None, expected: tuple[str, str, str]) -> None:
    found = find_columns(features(table), "hf:set", asked)
    assert (found.image, found.label, found.kind) == expected
    assert found.names == (("cat", "dog") if found.kind == "names" else None)


@pytest.mark.parametrize(
    ("table", "asked", "text"),
    [
        ("image:image id:int", None, "no column that is the label by its name: say which, --set data.label=id; its"),
        (
            "image:image caption:text",
            None,
            "say which, --set data.label=caption; its columns are image (Image), caption",
        ),
        ("image:image a:pets b:pets", None, "say which, --set data.label=a or --set data.label=b; its columns are"),
        (
            "image:image label:int class:text",
            None,
            "hf:set has 2 columns that could be the label: say which, --set data.label=label or",
        ),
        (
            "image:image kind:pets label:int",
            None,
            "--set data.label=label or --set data.label=kind; its columns are image (Image), kind (2 named",
        ),
        (
            "image:image weight:float",
            None,
            "has no column of labels; its columns are image (Image), weight (float32)",
        ),
        (
            "image:image label:float",
            "label",
            "data.label must be a column of class names, whole numbers or texts, got",
        ),
        ("image:image label:int", "lable", "data.label must be a column of hf:set, got 'lable'; its columns are"),
        ("label:int", None, "hf:set has no image column; its columns are label (int64)"),
        ("a:image b:image label:int", None, "hf:set has 2 image columns, a, b: keep one of them"),
        ("image:image img:image label:int", None, "hf:set has 2 image columns, image, img: keep one of them"),
    ],
)
def test_what_is_not_is_asked_for(table: str, asked: str | None, text: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        find_columns(features(table), "hf:set", asked)
    assert text in str(caught.value)


def classes(kind: str, train: list[Any], test: list[Any] | None = None) -> tuple[Any, ...]:
    names = ("cat", "dog") if kind == "names" else None
    found, numbers, test_numbers, notes = as_classes(Columns("image", "kind", kind, names), train, test, "hf:set")
    return found, numbers.tolist(), None if test_numbers is None else test_numbers.tolist(), notes


def test_what_classes_labels_are() -> None:
    assert classes("names", [1, 1], [0]) == (("cat", "dog"), [1, 1], [0], [])
    assert classes("numbers", [0, 2, 1, 0, 1, 2], [2]) == (("0", "1", "2"), [0, 2, 1, 0, 1, 2], [2], [])
    assert classes("texts", ["b", "a", "a", "b"]) == (("a", "b"), [1, 0, 0, 1], None, [])
    note = "the labels in column 'kind' are 2 numbers from 5 to 1000000000000; each that occurs is a class"
    assert classes("numbers", [5, 10**12, 5, 10**12]) == (("5", "1000000000000"), [0, 1, 0, 1], None, [note])


@pytest.mark.parametrize(
    ("kind", "train", "test", "text"),
    [
        (
            "names",
            [0, 2],
            None,
            "hf:set: the train split, column 'kind', has label 2 (image 1), but the 2 classes are",
        ),
        (
            "names",
            [0, 1],
            [0, -1],
            "the test split, column 'kind', has label -1 (image 1), but the 2 classes are label",
        ),
        ("numbers", [0, 1, -1, 0, 1, -1], None, "has label -1 (image 2), but a class has a number >= 0"),
        (
            "numbers",
            [0, 0, 1, 1],
            [0, 2],
            "the test split, column 'kind', has label 2 (image 1), which the train split",
        ),
        ("texts", ["a", "a", "b", "b"], ["c"], "has label 'c' (image 0), which the train split never has"),
        ("numbers", list(range(10**4)), None, "has 10,000 different values in 10,000 rows, which can't be classes"),
        (
            "texts",
            ["a", "b", "c", "c"],
            None,
            "has 3 different values in 4 rows, which can't be classes (two images for",
        ),
    ],
)
def test_what_labels_are_refused(kind: str, train: list[Any], test: list[Any] | None, text: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        classes(kind, train, test)
    assert text in str(caught.value)


def test_no_more_classes_than_a_network_can_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_CLASSES", 2)
    with pytest.raises(
        ValueError, match=r"3 different values in 9 rows.*2 classes at most.*--set data\.label=COLUMN"
    ):
        classes("numbers", [0, 1, 2] * 3)
    monkeypatch.setattr(module, "MOST_CLASSES", 1)
    with pytest.raises(ValueError, match=r"^hf:set: column 'kind' has 2 classes; 1 is the most$"):
        classes("names", [0, 1])
