"""Which jobs a call needs, in which order, and what is checked before the first one."""

from __future__ import annotations

from pathlib import Path

import pytest

from filtersmith.lab.papers.published import table
from filtersmith.lab.reproduce.choose import Chosen
from filtersmith.lab.reproduce.plan import Job, Place
from filtersmith.lab.reproduce.run import Call, _in_order, check, needed
from filtersmith.lab.reproduce.sets import Sets


def rows(name: str, *numbers: int) -> list[Chosen]:
    return [Chosen(table(name), table(name).row(number)) for number in numbers]


def call(tmp_path: Path, scale: float = 1.0, data: str | None = None) -> Call:
    return Call(Place(tmp_path / "runs", data, None if data is None else 1_437), tmp_path / "ledger", scale)


def test_what_several_rows_need_comes_once_and_first(tmp_path: Path) -> None:
    wanted = [(one, seed) for one in rows("repr/table2", 1, 2, 4) for seed in (0, 1)]
    found = needed(wanted, call(tmp_path))
    names = [(job.planned.config.model.name, job.seed, job.planned.stage) for job in found]
    assert names == [
        ("vanilla", 0, 1),
        ("vanilla", 1, 1),
        ("resnet110", 0, 1),
        *[("vanilla", seed, 2) for seed in (0, 1, 0, 1)],
    ]


def test_runs_on_the_same_data_are_trained_behind_one_another(tmp_path: Path) -> None:
    wanted = [(one, 0) for one in [*rows("repr/table1", 1, 5), *rows("wau/table6", 10), *rows("repr/table1", 7)]]
    order = _in_order(needed(wanted, call(tmp_path)))
    assert [job.planned.config.data.name for job in order] == ["cifar10", "cifar10", "cifar100", "cifar100"]


def test_what_cannot_be_trained_is_said_before_anything_is(tmp_path: Path) -> None:
    short = call(tmp_path, 0.01, "digits")
    every: list[Job] = needed([(one, 0) for one in rows("repr/table1", 1, 3)], short)
    said = r"^repr@vanilla on digits with scale 0\.01, 1 epoch: epochs must be above"
    with pytest.raises(ValueError, match=said):
        check(every, Sets(short.place), 0.01, lambda line: None)
    assert not (tmp_path / "runs").exists()
