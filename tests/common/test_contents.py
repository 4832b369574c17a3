"""What containers hold, and classes, is put back."""

from __future__ import annotations

import random
from collections import OrderedDict, deque
from typing import Any, ClassVar

import pytest
import torch

from filtersmith.common.contents import contents, same_attributes


class Loud(dict[str, Any]):
    """Does something of its own when it is changed."""

    def __setitem__(self, key: str, value: Any) -> None:
        raise AssertionError("changed by its own code")


def test_containers_and_those_inside_of_them_hold_what_they_held() -> None:
    inner, loud = [1, [2]], Loud(a=[1])
    values: list[Any] = [inner, {"a": inner, "b": ({3}, deque([4]))}, OrderedDict(x=1, y=2), loud]
    inner.append(values)  # holds itself
    restore = contents(values)
    inner.append(5)
    inner[1].clear()  # type: ignore[attr-defined]
    values[1]["b"][0].add(6)
    values[1]["b"][1].appendleft(7)
    values[1]["c"] = values[1].pop("a")
    values[2].move_to_end("x")
    dict.clear(loud)
    restore()
    assert inner == [1, [2], values]
    assert list(values[1]) == ["a", "b"]
    assert values[1]["a"] is inner
    assert values[1]["b"] == ({3}, deque([4]))
    assert list(values[2]) == ["x", "y"]
    assert loud == {"a": [1]}


def test_generators_go_on_from_where_they_were() -> None:
    numpy = pytest.importorskip("numpy")
    one, two, three = torch.Generator(), random.Random(0), numpy.random.default_rng(0)

    def draw() -> list[float]:
        return [float(torch.rand((), generator=one)), two.random(), float(three.random())]

    restore = contents([one, {"a": two}, [three]])
    drawn = draw()
    assert draw() != drawn
    restore()
    assert draw() == drawn


def test_a_class_keeps_its_attributes() -> None:
    class Counting:
        count = 0
        gone = 1
        names: ClassVar[list[str]] = []

    restore = same_attributes(Counting)
    Counting.count += 1
    Counting.names.append("x")
    Counting.more = 1  # type: ignore[attr-defined]
    del Counting.gone
    restore()
    assert (Counting.count, Counting.gone, Counting.names, hasattr(Counting, "more")) == (0, 1, [], False)
