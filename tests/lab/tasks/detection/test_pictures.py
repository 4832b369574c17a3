"""Images with boxes, read from their own lines and from what is said of them."""

from __future__ import annotations

import base64
import csv
import doctest
import io
import xml.etree.ElementTree as ET
from typing import Any

import pytest
import torch
from torch import Tensor

from filtersmith.lab.results.figures import COLOURS
from filtersmith.lab.tasks.detection import pictures
from filtersmith.lab.tasks.detection.pictures import Box, draw, drawn

pytest.importorskip("matplotlib", reason="pictures need the extra filtersmith[report]")

CLASSES = ("RBC", "WBC", "Platelets")


def target(boxes: list[list[float]], labels: list[int], **more: Tensor) -> dict[str, Tensor]:
    return {"boxes": torch.tensor(boxes).reshape(-1, 4), "labels": torch.tensor(labels, dtype=torch.int64), **more}


def detection(boxes: list[list[float]], labels: list[int], scores: list[float]) -> dict[str, Tensor]:
    return target(boxes, labels, scores=torch.tensor(scores))


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_documentation() -> None:
    assert doctest.testmod(pictures).failed == 0


def test_what_is_said_of_a_picture() -> None:
    there = target([[10, 20, 30, 40], [1, 2, 3, 4], [5, 5, 9, 9]], [1, 2, 1], iscrowd=torch.tensor([0, 0, 1]))
    seen = detection([[11, 21, 31, 41], [50, 50, 60, 60], [0, 0, 9, 9]], [1, 1, 3], [0.9, 0.625, 0.4999])
    (picture,) = drawn([torch.rand(3, 64, 80)], [there], [seen], CLASSES)
    assert picture.caption == "Image 1: 3 labelled, 2 found"
    assert picture.alt == (
        "Image 1: labelled 2 boxes of RBC, 1 box of WBC; "
        "found 2 boxes of RBC (0.62 to 0.90) with a score of at least 0.5"
    )
    found = rows(picture.csv)
    assert [(row["kind"], row["class"]) for row in found] == [
        *(("labelled", "RBC"), ("labelled", "WBC"), ("ignored", "RBC")),
        *(("found", "RBC"), ("found", "RBC")),
    ]
    assert [float(found[0][key]) for key in ("x1", "y1", "x2", "y2")] == [10, 20, 30, 40]
    assert [row["score"] for row in found] == ["", "", "", "0.9", "0.625"]
    source = base64.b64decode(picture.source.removeprefix("data:image/svg+xml;base64,"))
    assert ET.fromstring(source).tag.endswith("svg")


def test_the_first_images_and_their_names() -> None:
    images, none = [torch.rand(3, 20, 20)] * 4, [target([], [])] * 4
    nothing = [detection([], [], [])] * 4
    found = drawn(images, none, nothing, CLASSES, most=2, names=["a.jpg", "b.jpg", "c.jpg", "d.jpg"])
    assert [picture.caption for picture in found] == ["a.jpg: 0 labelled, 0 found", "b.jpg: 0 labelled, 0 found"]
    assert found[0].alt == "a.jpg: nothing is labelled; nothing is found with a score of at least 0.5"
    assert rows(found[0].csv) == []
    assert drawn([], [], [], CLASSES) == []
    with pytest.raises(ValueError, match="zip"):
        drawn(images, none[:1], nothing, CLASSES)


def test_least_score_and_what_is_not_finite() -> None:
    seen = detection([[1, 1, 5, 5], [1, 1, float("nan"), 5], [2, 2, 6, 6]], [1, 1, 1], [0.25, 0.9, 0.125])
    (picture,) = drawn([torch.rand(3, 20, 20)], [target([], [])], [seen], CLASSES, least_score=0.25)
    assert [row["score"] for row in rows(picture.csv)] == ["0.25"]
    assert picture.alt.endswith("found 1 box of RBC (0.25) with a score of at least 0.25")


def lines(figure: Any) -> list[tuple[str, Any, tuple[float, ...]]]:
    """Colour, dash and corners of every box, as Matplotlib has them."""
    from matplotlib.colors import to_hex

    (axes,) = figure.axes
    return [
        (to_hex(box.get_edgecolor()).upper(), box.get_linestyle(), (*box.get_xy(), box.get_width(), box.get_height()))
        for box in axes.patches
    ]


def test_dashed_where_labelled_solid_where_found_with_the_colour_of_the_class() -> None:
    boxes = [
        Box("labelled", 1, (1, 2, 11, 22)),
        Box("found", 2, (3, 4, 9, 9), 0.87),
        Box("ignored", 2, (5, 5, 8, 8)),
    ]
    figure = draw(torch.rand(3, 30, 40), boxes, {1: "RBC", 2: "WBC"}, {1: COLOURS[0], 2: COLOURS[1]})
    assert set(lines(figure)) == {
        (COLOURS[0], (0, (4, 2)), (1, 2, 10, 20)),
        (COLOURS[1], "solid", (3, 4, 6, 5)),
        (COLOURS[1], (0, (1, 1.5)), (5, 5, 3, 3)),
    }
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.87"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["RBC", "WBC", "labelled", "ignored", "found"]
    assert not any(box.get_clip_on() for box in figure.axes[0].patches)


def test_a_class_has_one_colour_on_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[dict[int, str]] = []
    real = pictures.draw

    def spy(image: Tensor, boxes: Any, called: Any, colours: dict[int, str]) -> Any:
        shown.append(colours)
        return real(image, boxes, called, colours)

    monkeypatch.setattr(pictures, "draw", spy)
    images = [torch.rand(3, 20, 20)] * 2
    drawn(images, [target([[1, 1, 5, 5]], [3]), target([[1, 1, 5, 5]], [2])], [detection([], [], [])] * 2, CLASSES)
    assert shown == [{2: COLOURS[0], 3: COLOURS[1]}] * 2


def test_more_classes_than_colours_bear_their_names() -> None:
    names = {label: f"thing {label}" for label in range(1, 9)}
    colours = {label: COLOURS[label % len(COLOURS)] for label in names}
    boxes = [Box("labelled", label, (4, 4.0 * label, 30, 40)) for label in names]
    figure = draw(torch.rand(3, 60, 80), [*boxes, Box("found", 1, (1, 1, 9, 9), 0.5)], names, colours)
    assert sorted(text.get_text() for text in figure.axes[0].texts) == sorted([*names.values(), "thing 1 0.50"])


@pytest.mark.parametrize("size", [(64, 85), (480, 640), (300, 70), (100, 600)])
@pytest.mark.parametrize("many", [False, True])
def test_nothing_is_clipped(size: tuple[int, int], many: bool) -> None:
    height, width = size
    corners = [(0, 0, width, height), (0, 0, 9, 9), (width - 9, 0, width, 9), (0, height - 9, 9, height)]
    corners += [(width - 9, height - 9, width, height), (width / 2, height / 2, width / 2 + 3, height / 2 + 3)]
    labels = range(1, 13) if many else range(1, 4)
    boxes = [Box("found", labels[n % len(labels)], corner, 1 - n / 20) for n, corner in enumerate(corners)]
    boxes += [Box("labelled", label, corners[label % 6]) for label in labels]
    called = {label: f"a class with a long name, the {label}th" for label in labels}
    figure = draw(torch.rand(3, *size), boxes, called, {label: COLOURS[label % 6] for label in labels})
    figure.set_dpi(300)  # finer than what hinting does to type; an SVG has none
    figure.draw_without_rendering()
    (axes,), (legend,) = figure.axes, figure.legends
    whole, image, below = figure.bbox, axes.get_window_extent(), legend.get_window_extent()
    thick = 2.5 * figure.dpi / 72 / 2
    for box in axes.patches:
        around = box.get_window_extent()
        assert whole.x0 <= around.x0 - thick + 0.1
        assert around.x1 + thick - 0.1 <= whole.x1
        assert around.y1 + thick - 0.1 <= whole.y1
    for text in axes.texts:
        around = text.get_bbox_patch().get_window_extent()
        assert image.x0 - thick <= around.x0 < around.x1 <= image.x1 + thick
        assert image.y0 - thick <= around.y0 < around.y1 <= image.y1 + thick
    assert whole.x0 <= below.x0 < below.x1 <= whole.x1
    assert whole.y0 <= below.y0 < below.y1 <= image.y0, "the legend stands below the image"


@pytest.mark.parametrize("size", [(64, 85), (600, 800), (2000, 100)])
def test_it_is_read_on_a_phone(size: tuple[int, int]) -> None:
    boxes = [Box("found", 1, (0, 0, 9, 9), 0.5)]
    figure = draw(torch.rand(3, *size), boxes, {1: "RBC"}, {1: COLOURS[0]})
    wide, high = figure.get_size_inches() * 96  # as browsers draw it
    assert wide <= 390, "as wide as it is drawn, so that its type is not smaller"
    assert high <= 600
    shown = [*figure.axes[0].texts, *figure.legends[0].get_texts()]
    assert all(text.get_fontsize() >= 8 for text in shown)


def test_names_are_no_mathematics_and_images_keep_their_colours() -> None:
    image = torch.tensor([1.0, 0.5, -3.0]).view(3, 1, 1).expand(3, 900, 1200)
    figure = draw(image, [Box("labelled", 1, (1, 1, 5, 5))], {1: "$x^$"}, {1: COLOURS[0]})
    figure.draw_without_rendering()  # mathematics would fail
    shown = figure.axes[0].images[0].get_array()
    assert max(shown.shape) <= 400, "no more than can be seen: a page holds it"
    assert shown[0, 0].tolist() == [255, 128, 0]
    assert figure.axes[0].images[0].get_extent() == [0, 1200, 900, 0], "boxes stay in pixels of the image"
