"""The versions of the mathematics of a run."""

from __future__ import annotations

import pytest

from filtersmith.lab.papers.published import table
from filtersmith.lab.reproduce.arms import Arm, arm_of
from filtersmith.lab.reproduce.maths import maths_of


def arm(name: str, number: int) -> Arm:
    return arm_of(table(name).row(number), table(name))


def test_the_mathematics_of_what_is_trained_before_counts() -> None:
    assert maths_of(arm("repr/table2", 4).spec()) == {"kd": 1, "repr": 1, "training": 1}
    assert maths_of(arm("repr/table3", 4).spec()) == {"kd": 1, "training": 1}
    assert maths_of(arm("kflo/table5", 22).spec()) == {"kflo": 1, "training": 1}


def test_a_method_that_is_not_installed_has_none() -> None:
    with pytest.raises(ValueError, match="unknown method 'future'"):
        maths_of({"method": "future(1)", "network": "vanilla"})
