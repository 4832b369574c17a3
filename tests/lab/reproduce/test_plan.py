"""The runs of an arm and a seed, behind those that they need."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from filtersmith.lab.papers.published import table
from filtersmith.lab.reproduce import maths
from filtersmith.lab.reproduce.arms import Arm, arm_of
from filtersmith.lab.reproduce.plan import Job, Place, jobs, needed

PLACE = Place(Path("runs"))


def arm(name: str, number: int) -> Arm:
    return arm_of(table(name).row(number), table(name))


def stages(found: list[Job]) -> list[tuple[str, int, int]]:
    return [(job.planned.config.method.split("(")[0], job.planned.config.seed, job.planned.stage) for job in found]


def test_a_plain_run_needs_nothing() -> None:
    (job,) = jobs(arm("repr/table1", 1), 3, PLACE)
    assert (job.planned.seed, job.planned.stage, job.planned.needs) == (3, 1, ())
    assert job.planned.config.data.name == "cifar10"
    assert job.planned.config.data.image_size == 32


def test_one_teacher_teaches_all_seeds() -> None:
    first, second = (jobs(arm("repr/table2", 2), seed, PLACE) for seed in (0, 4))
    assert first[0].planned.folder.path == second[0].planned.folder.path
    teacher, student = second
    assert student.planned.needs == (teacher.planned.folder,)
    assert student.planned.config.method == f"kd(teacher='{teacher.planned.folder.path}')"
    assert (teacher.planned.config.model.name, teacher.planned.config.seed) == ("resnet110", 0)
    assert student.planned.stage == 2


def test_generations_are_drawn_anew_and_taught_by_the_one_before() -> None:
    found = jobs(arm("repr/table3", 4), 1, PLACE)
    assert stages(found) == [("baseline", 1, 1), ("kd", 1_000_004, 2), ("kd", 2_000_007, 3)]
    assert [job.seed for job in found] == [1, 1, 1]
    assert str(found[1].planned.folder.path) in found[2].planned.config.method
    (plain,) = jobs(arm("repr/table3", 2), 1, PLACE)
    assert plain.planned.folder.path == found[0].planned.folder.path, "the first one is the plain row's"


def test_transfer_begins_with_networks_of_another_set() -> None:
    found = jobs(arm("kflo/table5", 22), 3, PLACE)
    assert [(job.planned.config.data.name, job.planned.config.seed) for job in found] == [
        *(("cifar10", seed) for seed in (3, 4, 0, 1)),
        ("cifar100", 3),
    ]
    text = found[-1].planned.config.method
    assert text.startswith("kflo(depth=2,decay_factor=1.0,networks=['runs/")
    assert text.count("seed-") == 4
    plain = jobs(arm("kflo/table5", 6), 3, PLACE)
    assert plain[-1].planned.config.model.weights == str(plain[0].planned.folder.model)
    assert plain[-1].planned.config.method == "baseline"


def test_other_data_has_folders_of_its_own() -> None:
    other = Place(Path("runs"), "digits", 1_437)
    (here,), (there,) = jobs(arm("repr/table1", 1), 0, PLACE), jobs(arm("repr/table1", 1), 0, other)
    assert here.planned.folder.path != there.planned.folder.path
    assert there.planned.config.data.name == "digits"
    alone = Place(Path("runs"), "digits", 1_437, ("cifar10",))
    assert jobs(arm("repr/table1", 5), 0, alone)[0].planned.config.data.name == "cifar100"


def test_what_several_rows_need_comes_once_and_first() -> None:
    wanted = [(arm("repr/table2", number), seed) for number in (1, 2, 4) for seed in (0, 1)]
    names = [(job.planned.config.model.name, job.seed, job.planned.stage) for job in needed(wanted, PLACE)]
    assert names == [
        ("vanilla", 0, 1),
        ("vanilla", 1, 1),
        ("resnet110", 0, 1),
        *[("vanilla", seed, 2) for seed in (0, 1, 0, 1)],
    ]


def test_other_mathematics_and_compiled_networks_have_folders_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    found = arm("repr/table1", 1)
    compiled = replace(found, train=found.train.model_copy(update={"compile": True}))
    before = {PLACE.folder(found, 0).path, PLACE.folder(compiled, 0).path}
    monkeypatch.setattr(maths, "TRAINING", 2)
    assert len(before | {PLACE.folder(found, 0).path}) == 3, "what was trained by other code is not taken for today's"
