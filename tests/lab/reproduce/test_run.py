"""Which jobs a call needs, in which order, and what is checked before the first one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from filtersmith.lab.papers.published import table
from filtersmith.lab.reproduce.arms import Arm, arm_of
from filtersmith.lab.reproduce.instead import DOWNLOADED, Instead
from filtersmith.lab.reproduce.plan import Job, Place, needed
from filtersmith.lab.reproduce.run import _in_order, check
from filtersmith.lab.reproduce.sets import Sets


def digits_at(out: Path) -> Place:
    return Place(out, Instead("digits"), dict.fromkeys(DOWNLOADED, 1_437))


def rows(name: str, *numbers: int, scale: float = 1.0) -> list[Arm]:
    return [arm_of(table(name).row(number), table(name), scale) for number in numbers]


def test_runs_on_the_same_data_are_trained_behind_one_another(tmp_path: Path) -> None:
    wanted = [(one, 0) for one in [*rows("repr/table1", 1, 5), *rows("wau/table6", 10), *rows("repr/table1", 7)]]
    order = _in_order(needed(wanted, Place(tmp_path / "runs")))
    assert [job.planned.config.data.name for job in order] == ["cifar10", "cifar10", "cifar100", "cifar100"]


def test_what_cannot_be_trained_is_said_before_anything_is(tmp_path: Path) -> None:
    place = digits_at(tmp_path / "runs")
    every: list[Job] = needed([(one, 0) for one in rows("repr/table1", 1, 3, scale=0.01)], place)
    said = r"^repr@vanilla on digits with scale 0\.01, 1 epoch: epochs must be above"
    with pytest.raises(ValueError, match=said):
        check(every, Sets(place), 0.01, lambda line: None)
    assert not (tmp_path / "runs").exists()


def test_of_many_rows_those_that_do_not_fit_are_left_out_with_what_needs_them(tmp_path: Path) -> None:
    place, said = digits_at(tmp_path / "runs"), []
    born_again = replace(rows("repr/table1", 3, scale=0.01)[0], generations=2)
    every = needed([(one, 0) for one in (*rows("repr/table1", 1, 3, scale=0.01), born_again)], place)
    assert len(every) == 3
    left = check(every, Sets(place), 0.01, said.append, leave_out=True)
    assert [job.arm.method for job in left] == ["baseline"]
    assert [line[:38] for line in said] == ["left out: repr@vanilla on digits with "]
    other = replace(
        rows("repr/table1", 3, scale=0.01)[0], data_options={"augment": False, "limit": None, "holdout": 7}
    )
    said.clear()
    check(
        needed([(rows("repr/table1", 3, scale=0.01)[0], 0), (other, 0)], place),
        Sets(place),
        0.01,
        said.append,
        leave_out=True,
    )
    assert len(said) == 1, "what is said alike of two is said once"
