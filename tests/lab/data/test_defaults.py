"""What is assumed of a set that says nothing: title and augmentation."""

from __future__ import annotations

from pathlib import Path

import pytest

from filtersmith.lab.data import Augment
from filtersmith.lab.data.defaults import augment_for, title_of


@pytest.mark.parametrize(
    ("place", "title"),
    [
        ("somebody/pets", "pets"),
        ("/data/cifar10-jpeg/", "CIFAR-10 (JPEG)"),
        ("uoft-cs/cifar100", "CIFAR-100"),
        ("svhn", "SVHN"),
        ("pets.parquet", "pets.parquet"),
    ],
)
def test_a_title_is_the_last_part_or_the_name_that_people_know(place: str, title: str) -> None:
    assert title_of(place) == title


def test_a_title_of_here_is_that_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pets").mkdir()
    monkeypatch.chdir(tmp_path / "pets")
    assert title_of(".") == "pets"


@pytest.mark.parametrize(
    ("place", "side", "augment"),
    [
        ("cifar10", 32, Augment(4, True)),
        ("pets", 8, Augment(1, True)),
        ("pets", 3, Augment(1, True)),
        ("pets", 100, Augment(12, True)),
        ("svhn", 32, Augment(4, False)),
        ("someone/Fashion-MNIST", 28, Augment(3, False)),
        ("digits-of-mine/pets", 28, Augment(3, True)),
    ],
)
def test_padding_is_an_eighth_and_digits_are_not_mirrored(place: str, side: int, augment: Augment) -> None:
    assert augment_for(place, side) == augment
