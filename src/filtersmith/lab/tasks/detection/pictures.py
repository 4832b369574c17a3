"""Images with what is labelled in them and what a detector finds, drawn for a page."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from filtersmith.common.words import plural
from filtersmith.lab.results.figures import COLOURS, as_source, plain_text
from filtersmith.lab.results.picture import Picture, as_csv

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HIGHEST = 3.8, 4.8
"""Inches of an image: on a phone of 390 pixels it is shown as large as it is drawn."""
TYPE = 8
"""Points."""
LINES = {"labelled": (0, (4, 2)), "ignored": (0, (1, 1.5)), "found": "solid"}
HEADS = ("kind", "class", "x1", "y1", "x2", "y2", "score")
_EDGE, _ROW, _PAD = 0.05, 0.16, 0.017  # inches
_SHARPEST = 400  # pixels: more would not be seen, and make the page heavy
_LONGEST_NAME = 22


class Box(NamedTuple):
    """A box that is drawn: x1 y1 x2 y2 in pixels of the image, and a score if it was found."""

    kind: str
    label: int
    corners: tuple[float, ...]
    score: float | None = None


def drawn(
    images: Sequence[Tensor],
    targets: Sequence[Mapping[str, Tensor]],
    detections: Sequence[Mapping[str, Tensor]],
    classes: Sequence[str],
    most: int = 6,
    least_score: float = 0.5,
    names: Sequence[str] | None = None,
) -> list[Picture]:
    """The first images, each as a picture: labelled boxes dashed, found ones solid with their scores.

    A class has the same colour in all of them. Where there are more classes than colours, the boxes bear their names.

    Args:
        images: (3, height, width) each, in [0, 1]; on any device.
        targets: of each image ``boxes`` and ``labels``; with ``iscrowd`` those that don't count are dotted.
        detections: of each image ``boxes``, ``labels`` and ``scores``.
        classes: names of the classes; label 1 is the first.
        most: so many images.
        least_score: detections below it aren't drawn.
        names: what the images are called; numbered from 1 by default.
    """
    boxes = [
        [*_labelled(target), *_found(detection, least_score)]
        for _, target, detection in list(zip(images, targets, detections, strict=True))[:most]
    ]
    used = sorted({box.label for every in boxes for box in every})
    colours = {label: COLOURS[place % len(COLOURS)] for place, label in enumerate(used)}
    called = {label: classes[label - 1] if 0 < label <= len(classes) else f"class {label}" for label in used}
    pictures = []
    for number, every in enumerate(boxes):
        name = names[number] if names is not None else f"Image {number + 1}"
        figure = draw(images[number], every, called, colours)
        pictures.append(_picture(name, every, called, least_score, figure))
    return pictures


def draw(image: Tensor, boxes: Sequence[Box], called: Mapping[int, str], colours: Mapping[int, str]) -> Figure:
    """One image with its boxes, and below it a legend of the classes and kinds that it shows."""
    from matplotlib.figure import Figure as New
    from matplotlib.lines import Line2D

    height, width = image.shape[-2:]
    scale = min(WIDTH / width, HIGHEST / height)
    entries = [
        (_short(called[label]), colours[label], "solid", 5) for label in sorted({box.label for box in boxes})
    ] + [(kind, "#333333", line, 1.5) for kind, line in LINES.items() if any(box.kind == kind for box in boxes)]
    columns = max(1, math.floor(WIDTH / (0.5 + max((_wide(name) for name, *_ in entries), default=1))))
    below = _ROW * math.ceil(len(entries) / columns) + 2 * _EDGE if entries else 0.0
    size = WIDTH + 2 * _EDGE, height * scale + 2 * _EDGE + below
    figure = New(figsize=size)
    left = (size[0] - width * scale) / 2
    axes = figure.add_axes(
        (left / size[0], (below + _EDGE) / size[1], width * scale / size[0], height * scale / size[1])
    )
    axes.imshow(_pixels(image), extent=(0, width, height, 0), interpolation="none")
    axes.set_axis_off()
    ordered = sorted(boxes, key=lambda box: box.score or 0)  # the surest on top
    for box in ordered:
        _draw_box(axes, box, colours[box.label])
    for box in ordered:
        text = _words(box, called[box.label] if len(called) > len(COLOURS) else "", width * scale)
        _write(axes, box, text, colours[box.label], (height, width), scale)
    if entries:
        handles = [Line2D([], [], color=c, linestyle=line, linewidth=thick) for _, c, line, thick in entries]
        figure.legend(
            handles,
            [plain_text(name) for name, *_ in entries],
            loc="lower center",
            bbox_to_anchor=(0.5, 0),
            ncols=columns,
            frameon=False,
            fontsize=TYPE,
            handlelength=1.8,
            columnspacing=1,
            borderpad=0.2,
            borderaxespad=0.2,
            labelspacing=0.3,
        )
    return figure


# --- boxes -----------------------------------------------------------------------------------------------


def _labelled(target: Mapping[str, Tensor]) -> list[Box]:
    labels = target["labels"].tolist()
    ignored = target["iscrowd"].tolist() if "iscrowd" in target else [0] * len(labels)
    rows = zip(target["boxes"].tolist(), labels, ignored, strict=True)
    return [Box("ignored" if odd else "labelled", label, tuple(corners)) for corners, label, odd in rows]


def _found(detection: Mapping[str, Tensor], least: float) -> list[Box]:
    rows = zip(*(detection[name].tolist() for name in ("boxes", "labels", "scores")), strict=True)
    return [
        Box("found", label, tuple(corners), score)
        for corners, label, score in rows
        if score >= least and all(map(math.isfinite, corners))
    ]


def _draw_box(axes: Axes, box: Box, colour: str) -> None:
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke

    x1, y1, x2, y2 = box.corners
    axes.add_patch(
        Rectangle(
            (x1, y1),
            x2 - x1,
            y2 - y1,
            fill=False,
            edgecolor=colour,
            linewidth=1.5,
            linestyle=LINES[box.kind],
            clip_on=False,  # a line on the edge of the image has its whole width
            path_effects=[withStroke(linewidth=2.5, foreground="w")],
        )
    )


def _write(axes: Axes, box: Box, text: str, colour: str, size: tuple[int, int], scale: float) -> None:
    """What a box is called, above it where there is room, and inside of the image in any case."""
    if not text:
        return
    wide, high = (_wide(text) + 2 * _PAD) / scale, (TYPE / 72 + 2 * _PAD) / scale
    x1, y1, _, y2 = box.corners
    x = max(0.0, min(x1, size[1] - wide))
    y = y1 - high if y1 >= high else y2 if y2 + high <= size[0] and box.score is None else max(y1, 0.0)
    axes.text(
        x + _PAD / scale,
        y + high / 2,
        plain_text(text),
        fontsize=TYPE,
        color="#111111",
        va="center_baseline",
        bbox={"facecolor": "w", "edgecolor": colour, "linewidth": 0.8, "pad": 72 * _PAD, "alpha": 0.85},
    )


# --- words -----------------------------------------------------------------------------------------------


def _picture(name: str, boxes: Sequence[Box], called: Mapping[int, str], least: float, figure: Figure) -> Picture:
    labelled, found = ([box for box in boxes if (box.kind == "found") is kind] for kind in (False, True))
    caption = f"{name}: {len(labelled)} labelled, {len(found)} found"
    there = f"labelled {_counted(labelled, called)}" if labelled else "nothing is labelled"
    seen = f"found {_counted(found, called)}" if found else "nothing is found"
    alt = f"{name}: {there}; {seen} with a score of at least {least:g}"
    rows = [
        [
            box.kind,
            called[box.label],
            *(round(corner, 2) for corner in box.corners),
            None if box.score is None else round(box.score, 4),
        ]
        for box in boxes
    ]
    return Picture(caption, alt, as_csv(HEADS, rows), as_source(figure))


def _counted(boxes: Sequence[Box], called: Mapping[int, str]) -> str:
    """How many of each class, and the scores of the surest.

    >>> _counted([Box("found", 1, (0, 0, 2, 2), 0.9), Box("found", 1, (0, 0, 2, 2), 0.7)], {1: "cat"})
    '2 boxes of cat (0.70 to 0.90)'
    """
    said = []
    for label, count in sorted(Counter(box.label for box in boxes).items()):
        scores = [box.score for box in boxes if box.label == label and box.score is not None]
        low, high = (f"{pick(scores):.2f}" if scores else "" for pick in (min, max))
        between = "" if not scores else f" ({low})" if low == high else f" ({low} to {high})"
        said.append(f"{plural(count, 'box', 'boxes')} of {called[label]}{between}")
    return ", ".join(said)


def _short(name: str, most: int = _LONGEST_NAME) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _words(box: Box, name: str, room: float) -> str:
    """What is written at a box, in so many inches: so much of the name as there is room for, and the score."""
    score = "" if box.score is None else f"{box.score:.2f}"
    ways = (f"{_short(name, most)} {score}".strip() for most in range(_LONGEST_NAME, 1, -1)) if name else iter(())
    return next((text for text in ways if _wide(text) + 2 * _PAD <= room), score)


def _wide(text: str) -> float:
    """Inches of a text."""
    from matplotlib.textpath import TextPath

    return float(TextPath((0, 0), plain_text(text), size=TYPE).get_extents().width) / 72


def _pixels(image: Tensor) -> Any:
    """(height, width, 3) for Matplotlib, no sharper than can be seen."""
    values = image.detach().float().cpu().clamp(0, 1)
    if (larger := max(values.shape[-2:]) / _SHARPEST) > 1:
        size = [max(1, round(side / larger)) for side in values.shape[-2:]]
        values = interpolate(values[None], size, mode="bilinear", antialias=True)[0]
    return (values * 255).round().to(torch.uint8).movedim(0, -1).numpy()
