"""Names in the text of a method that mean something outside of it."""

from __future__ import annotations

import doctest

from filtersmith.methods import outside
from filtersmith.methods.outside import names_in, unnamed


def test_the_teachers_of_a_text() -> None:
    assert list(names_in("wau+kd(teacher='runs/a')")) == ["runs/a"]
    assert list(names_in("kflo(networks=['a','b'])+wau")) == ["a", "b"]
    assert list(names_in("baseline")) == list(names_in("kflo+wau")) == list(names_in("kd")) == []


def test_texts_that_differ_in_where_something_stands_are_equal() -> None:
    assert unnamed("kflo(networks=['a','b'])+wau") == unnamed("kflo(networks=['c','d'])+wau")
    assert unnamed("kflo(networks=['a','b'])") != unnamed("kflo(networks=['a'])")
    assert unnamed("kd(teacher='a',weight=0.5)") != unnamed("kd(teacher='a')")
    assert unnamed("future(1)") == "future(1)"


def test_examples() -> None:
    assert doctest.testmod(outside).failed == 0
