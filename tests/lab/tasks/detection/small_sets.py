"""Small sets of images with boxes, as VOC and COCO lay them out."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from reference.pictures import write

HEIGHT, WIDTH = 40, 60
"""Of every image, in pixels."""

Things = Sequence[tuple[str, Sequence[Any]]]


def annotation(name: str, things: Things, *, size: tuple[Any, Any] = (HEIGHT, WIDTH), more: str = "") -> str:
    """The text of VOC's annotation; a class with a * is difficult, corners are written as they are."""
    objects = "".join(
        f"<object><name>{label.strip('*')}</name><difficult>{int('*' in label)}</difficult><bndbox>"
        + "".join(
            f"<{tag}>{corner}</{tag}>" for tag, corner in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
        )
        + "</bndbox></object>"
        for label, corners in things
    )
    return (
        f"<annotation><filename>{name}.jpg</filename>{more}"
        f"<size><height>{size[0]}</height><width>{size[1]}</width><depth>3</depth></size>{objects}</annotation>"
    )


def voc(root: Path, lists: Mapping[str, Sequence[str]], things: Mapping[str, Things] | None = None) -> Path:
    """A set of VOC: the names of each list; what is in an image, else one cat and one dog."""
    standard: Things = [("cat", (1, 1, 20, 30)), ("dog", (31, 11, 60, 40))]
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for part, names in lists.items():
        (root / "ImageSets/Main" / f"{part}.txt").write_text("".join(f"{name}\n" for name in names))
    for seed, name in enumerate(sorted({name for names in lists.values() for name in names})):
        write(root / "JPEGImages" / f"{name}.jpg", seed, size=(HEIGHT, WIDTH))
        text = annotation(name, (things or {}).get(name, standard))
        (root / "Annotations" / f"{name}.xml").write_text(text)
    return root


def coco_file(names: Sequence[str], categories: Mapping[int, str] | None = None, **more: Any) -> dict[str, Any]:
    """The content of COCO's file of annotations: images 10, 11, ..., with a box of each category in each."""
    categories = categories or {7: "dog", 3: "cat"}
    images = [
        {"id": 10 + number, "file_name": name, "height": HEIGHT, "width": WIDTH} for number, name in enumerate(names)
    ]
    boxes = [
        {"id": 1, "image_id": image["id"], "category_id": category, "bbox": [category, 2, 20, 30], "iscrowd": 0}
        for image in images
        for category in categories
    ]
    listed = [{"id": number, "name": name} for number, name in categories.items()]
    return {"images": images, "annotations": boxes, "categories": listed, **more}


def coco(root: Path, contents: Mapping[str, dict[str, Any]], folders: Mapping[str, str] | None = None) -> Path:
    """A set of COCO: the content for each split (``train2017``); images in the folder of that name, or another."""
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    seed = 0
    for split, content in contents.items():
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
        for image in content["images"]:
            place = root / (folders or {}).get(split, split) / image["file_name"]
            if not place.exists():
                write(place, seed, size=(HEIGHT, WIDTH))
            seed += 1
    return root


def bccd() -> Path:
    """The blood cells that lie beside the repository; skips where they do not."""
    shared = os.environ.get("FILTERSMITH_SHARED") or Path(__file__).parents[4].parent / "shared"
    folder = Path(shared) / "data" / "bccd-voc"
    if not folder.is_dir():
        pytest.skip(f"real images are not at hand: {folder} is absent")
    return folder
