"""The runs of an arm and a seed, behind those that they need."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from filtersmith.lab.papers.published import table
from filtersmith.lab.reproduce import maths
from filtersmith.lab.reproduce.arms import Arm, arm_of
from filtersmith.lab.reproduce.instead import DOWNLOADED, Instead
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
    other = Place(Path("runs"), Instead("digits"), dict.fromkeys(DOWNLOADED, 1_437))
    (here,), (there,) = jobs(arm("repr/table1", 1), 0, PLACE), jobs(arm("repr/table1", 1), 0, other)
    assert here.planned.folder.path != there.planned.folder.path
    assert there.planned.config.data.name == "digits"
    alone = Place(Path("runs"), Instead("digits", ("cifar10",)), {"cifar10": 1_437})
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


def test_a_backbone_is_trained_before_with_the_same_seed_and_methods_of_its_own() -> None:
    backbone, detector = jobs(arm("repr/table7", 6), 3, PLACE)
    assert backbone.arm == arm("repr/table5", 14)
    assert (backbone.planned.config.task, backbone.planned.config.data.image_size) == ("classification", 224)
    found = detector.planned.config
    assert (found.task, found.model.name, found.data.image_size) == ("detection", "fasterrcnn-resnet50-fpn", 800)
    assert found.model.weights == str(backbone.planned.folder.model)
    assert (found.method, backbone.seed, detector.planned.stage) == ("baseline", 3, 2)
    first, second = jobs(arm("wau/table2", 3), 0, PLACE)
    assert (first.planned.config.method, second.planned.config.method) == ("baseline", "wau(rate=0.5)")
    assert second.planned.config.data.image_size == 600


def test_without_data_for_the_backbone_its_methods_act_on_the_training_itself() -> None:
    place = Place(Path("runs"), Instead("voc:cells", ("coco",), image_size=128), {"coco": 292})
    (job,) = jobs(arm("repr/table7", 6), 0, place)
    config = job.planned.config
    assert config.method == "repr(prune=0.3,scale=0.1,reinit_next=small,gradual_steps=100)"
    assert (config.model.weights, config.data.name, config.data.image_size) == (None, "voc:cells", 128)
    assert job.arm.scratch
    assert job.arm.spec()["from_scratch"] is True
    assert jobs(arm("wau/table2", 3), 0, place)[0].planned.config.method == "wau(rate=0.5)"
    both = Place(Path("runs"), Instead("voc:cells", ("coco",), {"imagenet": "digits"}), {"coco": 292})
    assert [one.planned.config.data.name for one in jobs(arm("repr/table7", 6), 0, both)] == ["digits", "voc:cells"]
    plain = Place(Path("runs"), Instead("voc:cells", ("coco",)), {"coco": 292})
    folders = {jobs(arm("repr/table7", 6), 0, one)[-1].planned.folder.path for one in (place, both, plain)}
    assert len(folders) == 3


def test_colours_are_changed_of_images_on_disk_alone() -> None:
    held = Place(Path("runs"), Instead("digits", ("imagenet",)), {"imagenet": 1_437}, frozenset({"imagenet"}))
    found = [jobs(arm("repr/table5", 1), 0, place)[0].planned.config.data.augment for place in (PLACE, held)]
    assert found == ["color", True]
