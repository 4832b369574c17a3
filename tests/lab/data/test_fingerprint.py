"""What two runs were trained on: equal for equal data wherever they lie, and what differs said in words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.pictures import class_folders, write

from filtersmith.lab.data import Data, FileSet, ImageSet, load, with_held_out, with_limit
from filtersmith.lab.data.fingerprint import difference, digest, fingerprint, names_and_sizes, sampled


def digits() -> Data:
    return load("digits")


def changed(data: Data, **of_train: Any) -> Data:
    return replace(data, train=replace(data.train, **of_train))


def other_pixel(data: Data) -> Data:
    assert isinstance(data.train, ImageSet)
    images = data.train.images.clone()
    images[-1, 0, 0, 0] += 1
    return changed(data, images=images)


def other_label(data: Data) -> Data:
    labels = data.train.labels.clone()
    labels[7] = (labels[7] + 1) % 10
    return changed(data, labels=labels)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda data: replace(data, classes=(*data.classes, "ten")), "there are 10 classes there and 11 here"),
        (lambda data: replace(data, classes=("zero", *data.classes[1:])), "class 0 is '0' there and 'zero' here"),
        (lambda data: with_limit(data, 200), "the train split has 1,437 images there and 200 here"),
        (lambda data: replace(data, held_out=data.test), "the held-out split has 0 images there and 360 here"),
        (lambda data: replace(data, test=data.train), "the test split has 360 images there and 1,437 here"),
        (other_label, "the train split has other labels there and here"),
        (other_pixel, "the train split has other images there and here (other images, or another version of the d"),
        (lambda data: load("digits", image_size=9), "images are 8x8 pixels with 1 channel there and 9x9 pixels with"),
    ],
)
def test_what_differs_is_said(change: Callable[[Data], Data], text: str) -> None:
    old, new = fingerprint(digits()), fingerprint(change(digits()))
    assert (difference(old, old), difference(new, new)) == (None, None)
    assert text in str(difference(old, new))
    assert difference(new, old) is not None


def test_names_beyond_the_first_ones_count_too() -> None:
    images = ImageSet(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1]))
    names = tuple(map(str, range(30)))
    data = Data("set", "set", images, images, names, None)
    again = replace(data, classes=(*names[:-1], "other"))
    assert difference(fingerprint(data), fingerprint(again)) == "the classes have other names there and here"


def test_it_is_small_json_and_knows_neither_memory_format_nor_name() -> None:
    images = torch.randint(256, (40, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    split = ImageSet(images, torch.arange(40) % 2)
    data = with_held_out(Data("hf:here", "here", split, split, ("cat", "dog"), None), 10)
    made = fingerprint(data)
    assert json.loads(json.dumps(made)) == made
    assert len(json.dumps(made)) < 1000
    assert isinstance(data.train, ImageSet)
    pixels = data.train.images.contiguous(memory_format=torch.channels_last)
    assert pixels.stride() != data.train.images.stride()
    assert fingerprint(replace(changed(data, images=pixels), name="hf:elsewhere", title="elsewhere")) == made
    assert difference({**made, "format": 0}, made) is None


def test_files_are_known_by_names_sizes_and_bytes_and_not_by_their_folder(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    here = tmp_path / "here"
    class_folders(here / "train", 3, size=(100, 100))
    class_folders(here / "test", 2, size=(100, 100))
    shutil.copytree(here, tmp_path / "there" / "deeper")

    def made(folder: Path) -> dict[str, Any]:
        data = load(f"imagefolder:{folder}", image_size=100)
        assert isinstance(data.train, FileSet)
        return fingerprint(data)

    old = made(here)
    assert made(tmp_path / "there" / "deeper") == old
    file = here / "train" / "cat" / "1.png"
    before = file.read_bytes()
    file.write_bytes(before[:-1] + b"?")
    assert difference(old, made(here)) == "the train split has other images there and here"
    file.write_bytes(before + b"?")
    assert difference(old, made(here)) == "the train split has files of other names or sizes there and here"
    file.unlink()
    write(here / "train" / "cat" / "1b.png", 1, size=(100, 100))
    assert "files of other names" in str(difference(old, made(here)))
    data = load(f"imagefolder:{here}", image_size=100)
    shutil.rmtree(here / "test")
    with pytest.raises(ValueError, match=r"test/cat/0\.png cannot be read: No such file"):
        fingerprint(data)


def test_digests_know_where_one_part_ends(tmp_path: Path) -> None:
    def known(files: list[Path]) -> str:
        return digest(names_and_sizes(files))

    assert digest([b"ab", b"c"]) != digest([b"a", b"bc"])
    files = [write(tmp_path / "x" / f"{k}.png", seed=k) for k in range(2)]
    assert len({known(files), known(files[:1]), known(files[::-1]), known([]), digest(sampled(files))}) == 5
    files[0].unlink()
    with pytest.raises(ValueError, match=r"0\.png cannot be read"):
        known(files)


def test_a_set_on_disk_that_was_tested_on_other_parts_of_its_images(tmp_path: Path) -> None:
    now = fingerprint(load(f"imagefolder:{class_folders(tmp_path, 5, size=(120, 110))}", image_size=100))
    before = {name: value for name, value in now.items() if name != "centre"}
    assert difference(now, now) is None
    assert difference(before, now) == (
        "images are tested on their centre, 100% of the short side there and 87.5% here"
    )
    assert "centre" not in fingerprint(digits())
