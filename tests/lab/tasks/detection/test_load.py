"""Sets by name, parts of them, what tells two apart, and what a person sees."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lab.tasks.detection.small_sets import Things, bccd, coco, coco_file, voc

from filtersmith.lab.data.fingerprint import difference
from filtersmith.lab.tasks.detection.load import describe, fingerprint, load
from filtersmith.lab.tasks.detection.records import DetectionData, DetectionSet

LISTS = {"train": [f"t{n}" for n in range(9)], "val": ["v0", "v1"]}


def loaded(path: Path, **options: Any) -> DetectionData:
    return load(f"voc:{path}", **{"image_size": 32, "limit": None, **options})


def message(name: str, **options: Any) -> str:
    """The error that loading gives; always one line."""
    with pytest.raises(ValueError, match=r".") as caught:
        load(name, **{"image_size": 32, "limit": None, **options})
    text = str(caught.value)
    assert "\n" not in text
    return text


def names(part: DetectionSet | None) -> list[str]:
    assert part is not None
    return [file.stem for file in part.files]


def test_both_layouts_give_the_same_kind_of_data(tmp_path: Path) -> None:
    voc(tmp_path / "cells", LISTS)
    data = load(f"voc:{tmp_path}/cells", image_size=None, limit=None)
    assert (data.name, data.title, data.classes) == (f"voc:{tmp_path}/cells", "cells", ("cat", "dog"))
    assert (data.channels, data.image_size, data.held_out) == (3, None, None)
    assert (names(data.train), names(data.test)) == (LISTS["train"], LISTS["val"])
    coco(tmp_path / "cells2", {"train2017": coco_file(["a.jpg"]), "val2017": coco_file(["b.jpg"])})
    data = load(f"coco:{tmp_path}/cells2", image_size=64, limit=None)
    assert (data.title, data.classes, data.image_size) == ("cells2", ("cat", "dog"), 64)
    assert (names(data.train), names(data.test)) == (["a"], ["b"])


def test_a_part_of_the_training_images_is_spread_evenly(tmp_path: Path) -> None:
    root = voc(tmp_path, LISTS)
    assert names(loaded(root, limit=3).train) == ["t0", "t3", "t6"]
    assert names(loaded(root, limit=2).train) == ["t0", "t4"]
    assert names(loaded(root, limit=9).train) == LISTS["train"]
    assert names(loaded(root, limit=1).test) == LISTS["val"], "all are tested"
    for wrong in (0, 10, True, 1.5):
        text = message(f"voc:{root}", limit=wrong)
        assert text.startswith("data.limit must be from 1 to the 9 training images, got ")


def test_images_are_held_out_before_they_are_limited(tmp_path: Path) -> None:
    root = voc(tmp_path, LISTS)
    data, again = loaded(root, holdout=4, limit=2), loaded(root, holdout=4)
    assert names(data.held_out) == names(again.held_out)
    assert sorted(names(again.held_out) + names(again.train)) == LISTS["train"]
    assert (len(data.train), len(names(data.held_out))) == (2, 4)
    assert set(names(data.train)) < set(names(again.train))
    assert message(f"voc:{root}", holdout=9).startswith("data.holdout must be below the 9 training images, got 9")
    assert message(f"voc:{root}", holdout=-1).startswith("data.holdout must be a whole number of at least 0, got -1")


def test_images_of_both_splits_are_tested_only(tmp_path: Path) -> None:
    lists = {"train": ["a", "b", "c", "d"], "val": ["b", "e"]}
    root = voc(tmp_path, lists)
    (root / "JPEGImages/d.jpg").unlink()
    os.symlink("e.jpg", root / "JPEGImages/d.jpg")
    data = loaded(root)
    assert (names(data.train), names(data.test)) == (["a", "c"], ["b", "e"])
    assert data.notes[1:] == (
        "2 images for testing are listed for training, too, and are not trained on: b.jpg, d.jpg",
    )
    assert "the training split has no images (" in message(f"voc:{voc(tmp_path / 'x', {'train': 'a', 'val': 'a'})}")


def test_splits_without_boxes(tmp_path: Path) -> None:
    nothing: dict[str, Things] = {"a": [], "b": [("cat*", (1, 1, 9, 9))], "c": [("cat", (5, 5, 5, 5))]}
    text = message(f"voc:{voc(tmp_path / '1', {'train': 'abc', 'val': 'd'}, nothing)}")
    assert "there are no boxes in the 3 images of the training split (" in text
    assert "1 box has no area and is left out: c.jpg" in text, "it says why"
    text = message(f"voc:{voc(tmp_path / '2', {'train': 'd', 'val': 'abc'}, nothing)}")
    assert "there are no boxes in the 3 images of the test split" in text
    root = voc(tmp_path / "3", {"train": "ad", "val": "e"}, nothing)
    assert "there are no boxes in the 1 image of the training split" in message(f"voc:{root}", limit=1)


def test_classes_that_a_split_lacks_are_named(tmp_path: Path) -> None:
    things: dict[str, Things] = {"b": [("emu", (1, 1, 9, 9))], "c": [("cat", (1, 1, 9, 9))]}
    data = loaded(voc(tmp_path, {"train": "ab", "val": "c"}, things))
    assert data.classes == ("cat", "dog", "emu")
    assert data.notes[1:] == ("there are no test boxes of 2 classes: dog, emu",)
    limited = loaded(tmp_path, limit=1)
    assert limited.notes[1:] == (
        "there are no training boxes of 1 class: emu",
        "there are no test boxes of 2 classes: dog, emu",
    )


def test_names_and_sizes_that_mean_nothing(tmp_path: Path) -> None:
    for name in ("voc", "voc:", "pets", "yolo:x"):
        assert message(name) == f"data must be voc:PATH or coco:PATH, got {name!r}"
    assert f"data must be voc:{tmp_path} or coco:{tmp_path} to read that path" in message(str(tmp_path))
    assert message(f"voc:{tmp_path}/x") == f"voc:{tmp_path}/x: there is no folder {tmp_path}/x"
    for size in (0, True, 1.5):
        text = message(f"voc:{tmp_path}", image_size=size)
        assert text == f"data.image_size must be a whole number of pixels >= 1, got {size}"


def test_the_same_data_have_the_same_fingerprint_wherever_they_lie(tmp_path: Path) -> None:
    root = voc(tmp_path / "1", LISTS)
    shutil.copytree(root, tmp_path / "2")
    one, other = fingerprint(loaded(root, holdout=2)), fingerprint(loaded(tmp_path / "2", holdout=2))
    assert one == other == json.loads(json.dumps(one))
    assert one["splits"].keys() == {"train", "test", "held_out"}
    assert (one["splits"]["train"]["images"], one["splits"]["train"]["boxes"]) == (7, 14)
    assert (one["class_names"], one["shape"]) == (["cat", "dog"], [3, 32, 32])
    assert fingerprint(loaded(root, image_size=None))["shape"] is None


def changed(path: Path, old: str, new: str) -> None:
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_what_tells_two_sets_apart(tmp_path: Path) -> None:
    root = voc(tmp_path / "1", LISTS)
    old = fingerprint(loaded(root))

    def told() -> str | None:
        return difference(old, fingerprint(loaded(root)))

    assert told() is None
    xml = root / "Annotations/v1.xml"
    text_before = xml.read_text()
    labels = "the test split has other labels there and here"
    for text, other in (("<xmax>20<", "<xmax>20.5<"), ("<difficult>0<", "<difficult>1<")):
        changed(xml, text, other)
        assert told() == labels
        changed(xml, other, text)
    changed(xml, "<name>cat<", "<name>dog<")
    assert told() == labels
    changed(xml, "<name>dog<", "<name>emu<")
    assert told() == "there are 2 classes there and 3 here"
    xml.write_text(text_before)
    file = root / "JPEGImages/t1.jpg"
    data = file.read_bytes()
    file.write_bytes(data[:-4] + bytes([data[-4] ^ 1]) + data[-3:])
    assert told() == "the train split has other images there and here"
    file.write_bytes(data + b"0")
    assert told() == "the train split has files of other names or sizes there and here"
    file.write_bytes(data)
    assert told() is None
    resized = difference(old, fingerprint(loaded(root, image_size=16)))
    assert resized == "images are 32x32 pixels with 3 channels there and 16x16 pixels with 3 channels here"


def test_a_box_of_one_image_is_not_that_of_the_next(tmp_path: Path) -> None:
    """Boxes are digested image by image."""
    box = ("cat", (1, 1, 9, 9))
    one = voc(tmp_path / "1", {"train": "ab", "val": "c"}, {"a": [box, box], "b": [box]})
    two = voc(tmp_path / "2", {"train": "ab", "val": "c"}, {"a": [box], "b": [box, box]})
    assert difference(fingerprint(loaded(one)), fingerprint(loaded(two))) is not None


def test_what_a_person_sees(tmp_path: Path) -> None:
    things: dict[str, Things] = {"t0": [], "t1": [("cat*", (1, 1, 9, 9)), ("cat", (0, 1, 9, 9))]}
    data = loaded(voc(tmp_path, LISTS, things), holdout=1)
    assert names(data.held_out) == ["t8"]
    assert describe(data) == [
        "8 training, 2 test and 1 held-out images, short sides scaled to 32 pixels, 2 classes",
        "images are 60 pixels wide and 40 high",
        "training boxes: 7 cat, 6 dog; 1 ignored; 1 image without a box",
        "test boxes: 2 cat, 2 dog",
        "held-out boxes: 1 cat, 1 dog",
        "note: trained on the images of train.txt, tested on those of val.txt",
        "note: 1 box reaches beyond its image and is clipped: t1.jpg",
    ]
    assert describe(loaded(tmp_path, image_size=None))[0] == "9 training and 2 test images, 2 classes"


def test_blood_cells() -> None:
    data = load(f"voc:{bccd()}", image_size=128, limit=20, holdout=10)
    assert data.title == "bccd-voc"
    assert [len(part) for part in (data.train, data.test)] == [20, 72]
    assert data.test.boxes_by_class(3) == [69, 805, 71]
    whole = load(f"voc:{bccd()}", image_size=128, limit=None)
    assert whole.train.boxes_by_class(3) == [292, 3348, 301]
    for target, size in zip(whole.train.targets, whole.train.sizes, strict=True):
        assert (target.boxes >= 0).all()
        assert (target.boxes[:, 2:] <= torch.tensor(size).flip(0)).all()
        assert (target.boxes[:, 2:] > target.boxes[:, :2]).all()
