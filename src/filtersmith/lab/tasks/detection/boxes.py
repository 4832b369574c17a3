"""What an annotation says of the things in an image, checked: boxes with area, inside of the image."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from filtersmith.lab.data.decode import size_of
from filtersmith.lab.tasks.detection.faults import Fault, Faults
from filtersmith.lab.tasks.detection.records import Target

_LEAST_SIDE = 0.01
"""Pixels; a box that is thinner has no area that float32 could tell."""
_ROUNDING = 0.999
"""Pixels that a box may reach beyond its image before this is worth a word: files hold rounded numbers."""

Box = tuple[float, float, float, float]


class Thing(NamedTuple):
    """One thing in an image.

    Attributes:
        label: class number from 1.
        corners: x1, y1, x2, y2 in pixels, as the annotation says them.
        ignored: not trained on, and neither right nor wrong when tested.
    """

    label: int
    corners: Sequence[Any]
    ignored: bool


def fitted(
    corners: Sequence[Any], size: tuple[int, int], *, inclusive: bool = False
) -> tuple[Box | None, Fault | None]:
    """A box clipped to its image, or ``None`` where nothing of it is left; and what was wrong with it.

    Args:
        corners: x1, y1, x2, y2 as written; ``ValueError`` cannot come of them, whatever they are.
        size: Height and width of the image in pixels.
        inclusive: Corners are the first and the last pixel of the box, counted from 1, as in VOC. A box whose first
            and last pixel are the same is then one click of somebody's mouse: it has no area, either.
    """
    try:
        x1, y1, x2, y2 = (float(corner) for corner in corners)
    except (TypeError, ValueError, OverflowError):
        return None, Fault.NO_NUMBERS
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        return None, Fault.NO_NUMBERS
    if x2 - x1 < _LEAST_SIDE or y2 - y1 < _LEAST_SIDE:
        return None, Fault.NO_AREA
    if inclusive:
        x1, y1 = x1 - 1, y1 - 1
    height, width = size
    beyond = max(-x1, -y1, x2 - width, y2 - height)
    box = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
    if box[2] - box[0] < _LEAST_SIDE or box[3] - box[1] < _LEAST_SIDE:
        return None, Fault.OUTSIDE
    return box, Fault.CLIPPED if beyond > _ROUNDING else None


def target_of(
    things: Iterable[Thing], size: tuple[int, int], where: str, faults: Faults, *, inclusive: bool = False
) -> Target:
    """The boxes of one image that have area inside of it; what is wrong with the others is counted.

    Args:
        things: What the annotation says; labels are known to be right.
        size: Height and width of the image in pixels.
        where: The name under which faults are counted.
        faults: Where they are.
        inclusive: See `fitted`.
    """
    kept: list[tuple[Box, Thing]] = []
    for thing in things:
        box, fault = fitted(thing.corners, size, inclusive=inclusive)
        if fault:
            faults.add(fault, where)
        if box:
            kept.append((box, thing))
    return Target(
        torch.tensor([box for box, _ in kept], dtype=torch.float32).reshape(-1, 4),
        torch.tensor([thing.label for _, thing in kept], dtype=torch.int64),
        torch.tensor([thing.ignored for _, thing in kept], dtype=torch.bool),
    )


def real_size(file: Path, faults: Faults) -> tuple[int, int] | None:
    """Height and width of an image in pixels, from its header; ``None`` where it is not there or can't be read."""
    if not file.is_file():
        faults.add(Fault.NO_IMAGE, file.name)
        return None
    try:
        return size_of(file)
    except ValueError:
        faults.add(Fault.UNREADABLE, file.name)
        return None


def check_written(written: Sequence[Any], real: tuple[int, int], where: str, faults: Faults) -> None:
    """Count it where an annotation says another (height, width) than the image has; ``None`` says nothing."""
    if any(one is not None for one in written) and tuple(written) != real:
        faults.add(Fault.OTHER_SIZE, where)
