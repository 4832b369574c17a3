"""Which outcome of a condition goes on, and who asks for a class, read off the instructions."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from filtersmith.graph.checks import calls_isinstance, outcome_that_goes_on


class Asked:
    """Notes what is found where somebody asks for its truth, or its class."""

    def __init__(self, truth: bool) -> None:
        self.truth, self.found, self.classes = truth, [], []

    def __bool__(self) -> bool:
        frame = sys._getframe(1)
        self.found.append(outcome_that_goes_on(frame.f_code, frame.f_lasti))
        return self.truth

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":
            frame = sys._getframe(1)
            self.classes.append(calls_isinstance(frame.f_code, frame.f_lasti))
        return super().__getattribute__(name)


SPACE: dict[str, Any] = {}  # pytest makes something else of assert
exec("def asserts(x):\n    assert x, f'{1 + 1}'\n\ndef one_of_two(x):\n    assert x or x\n    print(end='')", SPACE)
asserts, one_of_two = SPACE["asserts"], SPACE["one_of_two"]


def raises(x: Asked) -> None:
    if not x:
        raise ValueError("no")


def raises_if(x: Asked) -> None:
    if x:
        raise ValueError("no")
    print(end="")


def both(x: Asked) -> None:
    if x and x:
        raise ValueError
    print(end="")


def chooses(x: Asked) -> int:
    return 1 if x else 2


def changes(x: Asked) -> None:
    y = 1
    if x:
        y = 2
        if y > 1:
            raise ValueError
    print(y, end="")


def loops(x: Asked) -> None:
    while x:
        print(end="")


def keeps(x: Asked) -> bool:
    return not x


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        *((asserts, True), (raises, True), (raises_if, False), (one_of_two, True), (both, False)),
        *((one, None) for one in (chooses, changes, loops, keeps)),
    ],
)
def test_the_outcome_that_goes_on(code: Callable[[Asked], object], expected: bool | None) -> None:
    x = Asked(False if expected is None else expected)
    code(x)
    assert x.found[0] is expected


def test_only_isinstance_asks_for_a_class() -> None:
    x = Asked(True)
    isinstance(x, (int, float))
    isinstance((x, [len([1, 2])])[0], dict)
    assert x.classes == [True, True, True]
    issubclass(x.__class__, dict)
    max(isinstance(1, int), getattr(x, "__class__") is dict)  # noqa: B009
    assert x.classes == [True, True, True, False, False]
