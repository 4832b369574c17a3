"""Names of data sets: those that there are, and one clear line for those that there are not."""

from __future__ import annotations

from typing import Any

import pytest

from filtersmith.lab.data import SOURCES, load, names


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("digit", "unknown data 'digit' (did you mean 'digits'?); known: digits, cifar10"),
        ("cifar10:here", "unknown data 'cifar10:here'"),
        ("", "unknown data ''"),
        ("hf:", "data must be hf: followed by a path or id, got 'hf:'"),
        ("imagefolder", "data must be imagefolder: followed by a path, got 'imagefolder'"),
    ],
)
def test_unknown_names(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        load(name)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize("size", [0, -3, 2.5])
def test_a_bad_image_size(size: Any) -> None:
    with pytest.raises(ValueError, match=rf"data\.image_size must be a whole number of pixels >= 1, got {size}"):
        load("digits", image_size=size)


@pytest.mark.parametrize("name", ["digits", "imagefolder:somewhere"])
def test_a_label_column_where_there_are_no_columns(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^data\.label=kind names a column of hf:PATH_OR_ID; {name} has none"):
        load(name, label="kind")


def test_every_listed_name_has_a_line() -> None:
    assert names() == tuple(SOURCES)
    assert {"digits", "cifar10", "cifar100", "svhn", "imagefolder:PATH", "hf:PATH_OR_ID"} == set(names())
    assert all(line and "\n" not in line for line in SOURCES.values())
