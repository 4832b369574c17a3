"""What the dry run says of a set."""

from __future__ import annotations

from dataclasses import replace

from filtersmith.lab.data import load, with_held_out
from filtersmith.lab.data.describe import describe, noted
from filtersmith.lab.data.records import Sizes


def test_classes_counts_sizes_and_notes() -> None:
    data = load("digits")
    assert describe(data) == [
        "10 classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
        "images of each class: 139 to 146 training, 35 to 37 test",
    ]
    assert noted(data) == []
    more = replace(data, classes=(*data.classes, *map(str, range(10, 1200))), notes=("one", "two"))
    more = replace(more, sizes=Sizes(heights=(30, 1200), widths=(20, 20)))
    assert describe(more) == [
        "1,200 classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 1,190 more",
        "images of each class: 0 to 146 training, 0 to 37 test",
        "before they are resized, images are 20 pixels wide and 30 to 1,200 high",
        "note: one",
        "note: two",
    ]
    assert "held-out" in describe(with_held_out(data, 50))[1]
