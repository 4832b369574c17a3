"""COCO's layout: which files are used, where the images are, what boxes mean, and what is skipped or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lab.tasks.detection.small_sets import HEIGHT, WIDTH, coco, coco_file

from filtersmith.lab.tasks.detection.coco import read_coco
from filtersmith.lab.tasks.detection.faults import Faults
from filtersmith.lab.tasks.detection.records import Layout, Sample


def read(path: Path) -> tuple[Layout, list[str]]:
    faults = Faults()
    return read_coco(f"coco:{path}", path, faults), faults.notes()


def names(samples: list[Sample]) -> list[str]:
    return [one.file.name for one in samples]


def message(path: Path) -> str:
    """The error that reading gives; always one line."""
    with pytest.raises(ValueError, match=r".") as caught:
        read(path)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    return text


def test_boxes_have_corner_and_size_and_crowds_are_ignored(tmp_path: Path) -> None:
    train = coco_file(["b.jpg", "a.jpg"])
    train["annotations"] = [
        {"image_id": 11, "category_id": 7, "bbox": [10, 20.5, 5, 6]},
        {"image_id": 11, "category_id": 3, "bbox": [0, 0, WIDTH, HEIGHT], "iscrowd": 1},
    ]
    layout, faults = read(coco(tmp_path, {"train2017": train, "val2017": coco_file(["c.jpg"])}))
    assert layout.classes == ("cat", "dog"), "in the order of their numbers, 3 and 7"
    assert layout.notes == (
        "trained on the images of instances_train2017.json, tested on those of instances_val2017.json",
    )
    assert names(layout.train) == ["b.jpg", "a.jpg"]
    assert len(layout.train[0].target) == 0, "an image without boxes stays"
    found = layout.train[1]
    assert found.size == (HEIGHT, WIDTH)
    assert found.target.boxes.tolist() == [[10, 20.5, 15, 26.5], [0, 0, WIDTH, HEIGHT]]
    assert (found.target.labels.tolist(), found.target.ignored.tolist()) == ([2, 1], [False, True])
    assert layout.test[0].target.boxes.tolist() == [[7, 2, 27, 32], [3, 2, 23, 32]]
    assert faults == []


@pytest.mark.parametrize("folder", ["train2017", "images/train2017", "train", "images/train", "images", ""])
def test_where_the_images_are(tmp_path: Path, folder: str) -> None:
    contents = {"train2017": coco_file(["a.jpg", "b.jpg"]), "val2017": coco_file(["c.jpg"])}
    (tmp_path / "images").mkdir()
    layout, faults = read(coco(tmp_path, contents, {"train2017": folder}))
    assert [one.file for one in layout.train] == [tmp_path / folder / "a.jpg", tmp_path / folder / "b.jpg"]
    assert faults == []


def test_which_files_are_used_is_said(tmp_path: Path) -> None:
    contents = {name: coco_file([f"{name}.jpg"]) for name in ("train2014", "val2014", "test2014", "minival2014")}
    layout, _ = read(coco(tmp_path, contents))
    assert (names(layout.train), names(layout.test)) == (["train2014.jpg"], ["test2014.jpg"])
    assert layout.notes == (
        "trained on the images of instances_train2014.json, tested on those of instances_test2014.json",
        "files of annotations that are not read: instances_minival2014.json, instances_val2014.json",
    )
    coco(tmp_path, {"train2017": coco_file(["x.jpg"])})
    assert "has several files to train on, instances_train2014.json, instances_train2017.json: keep" in message(
        tmp_path
    )


def test_what_can_be_skipped_is_counted_and_named(tmp_path: Path) -> None:
    train = coco_file(["a.jpg", "b.jpg", "c.jpg"])
    train["images"][0]["width"] = 61
    train["annotations"] = [
        {"image_id": 10, "category_id": category, "bbox": box}
        for category, box in [
            (3, [50, 0, 20, 10]),
            (3, [0, 0, 0, 10]),
            (3, [60, 0, 10, 10]),
            (3, [float("nan"), 0, 10, 10]),
            (3, ["1", "1", "5", "5"]),
            (3, [1, 1, 5]),
            (3, [10**400, 1, 5, 5]),
            (3, None),
            (9, [0, 0, 10, 10]),
            (None, [0, 0, 10, 10]),
        ]
    ]
    train["annotations"] += [{"image_id": 99, "category_id": 3, "bbox": [0, 0, 1, 1]}, {"bbox": [0, 0, 1, 1]}]
    root = coco(tmp_path, {"train2017": train, "val2017": coco_file(["v.jpg"])})
    (root / "train2017/b.jpg").write_text("no image")
    (root / "train2017/c.jpg").unlink()
    layout, faults = read(root)
    assert names(layout.train) == ["a.jpg"]
    assert layout.train[0].target.boxes.tolist() == [[50, 0, 60, 10]]
    assert faults == [
        "1 image is not there and is left out: c.jpg",
        "1 image cannot be read and is left out: b.jpg",
        "1 annotation says another size than its image has, and is not believed: a.jpg",
        "2 boxes belong to images that are not listed and are left out: instances_train2017.json",
        "2 boxes have no class, or one that is not listed, and are left out: a.jpg",
        "5 boxes are left out, as their coordinates are not four finite numbers: a.jpg",
        "1 box has no area and is left out: a.jpg",
        "1 box lies outside of its image and is left out: a.jpg",
        "1 box reaches beyond its image and is clipped: a.jpg",
    ]


def test_files_that_are_missing(tmp_path: Path) -> None:
    assert "has no file to train on (expected annotations/instances_train2017.json and" in message(tmp_path)
    coco(tmp_path, {"train2017": coco_file(["a.jpg"])})
    assert "has no file to test on" in message(tmp_path)
    assert message(tmp_path).endswith("there are instances_train2017.json")


def test_images_that_are_all_missing_or_none(tmp_path: Path) -> None:
    root = coco(tmp_path, {"train2017": coco_file(["a.jpg"]), "val2017": coco_file(["v.jpg"])})
    (root / "train2017/a.jpg").unlink()
    text = message(root)
    assert (
        f"the images of instances_train2017.json, like a.jpg, are in none of {root}/train2017, {root}/images" in text
    )
    coco(tmp_path, {"train2017": coco_file([])})
    assert "lists no images" in message(root)


@pytest.mark.parametrize(
    ("categories", "text"),
    [
        ({3: "cat", 8: "dog"}, "category 7 is dog in instances_train2017.json, but instances_val2017.json has none"),
        (
            {3: "cow", 7: "dog"},
            "category 3 is cat in instances_train2017.json, but instances_val2017.json calls it cow",
        ),
        (
            {3: "cat", 7: "dog", 9: "emu"},
            "category 9 is emu in instances_val2017.json, but instances_train2017.json has none of that id",
        ),
    ],
)
def test_both_files_have_the_same_categories(tmp_path: Path, categories: dict[int, str], text: str) -> None:
    contents = {"train2017": coco_file(["a.jpg"]), "val2017": coco_file(["v.jpg"], categories)}
    assert text in message(coco(tmp_path, contents))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda one: one.pop("images"), "has no list of images"),
        (lambda one: one.update(annotations={}), "has no list of annotations"),
        (lambda one: one.update(categories=None), "has no list of categories"),
        (lambda one: one["annotations"].append(3), "annotations[4] is no object"),
        (lambda one: one["images"][1].pop("id"), "images[1] needs an 'id' and a text 'file_name'"),
        (lambda one: one["images"][1].update(file_name=3), "images[1] needs an 'id' and a text 'file_name'"),
        (lambda one: one["images"][1].update(id=10), "images[1] has the id 10 of another image, a.jpg"),
        (lambda one: one["images"][1].update(file_name="a.jpg"), "has the image a.jpg twice, with the ids 10 and 11"),
        (
            lambda one: one["categories"][0].update(id="7"),
            "categories[0] needs a whole number 'id' and a text 'name'",
        ),
        (
            lambda one: one["categories"][0].update(name=" "),
            "categories[0] needs a whole number 'id' and a text 'name'",
        ),
        (lambda one: one["categories"][0].update(id=3), "categories[1] has the id 3 of another category, dog"),
        (lambda one: one["categories"][0].update(name="cat"), "has several categories called cat"),
        (lambda one: one["categories"][0].update(name="\x1b[31m"), r"has a name that can't be printed, '\x1b[31m'"),
    ],
)
def test_a_file_that_makes_no_sense(tmp_path: Path, change: Callable[[dict[str, Any]], Any], text: str) -> None:
    train = coco_file(["a.jpg", "b.jpg"])
    root = coco(tmp_path, {"train2017": train, "val2017": coco_file(["v.jpg"])})
    change(train)
    (root / "annotations/instances_train2017.json").write_text(json.dumps(train))
    assert text in message(root)


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"\xff\xfe\xff", b'{"a": ' + b"1" * 5000 + b"}"])
def test_no_json(tmp_path: Path, content: bytes) -> None:
    root = coco(tmp_path, {"train2017": coco_file(["a.jpg"]), "val2017": coco_file(["v.jpg"])})
    (root / "annotations/instances_val2017.json").write_bytes(content)
    assert "instances_val2017.json is no JSON: " in message(root)
    (root / "annotations/instances_val2017.json").write_bytes(b"[]")
    assert "instances_val2017.json holds no object of images, annotations and categories" in message(root)
