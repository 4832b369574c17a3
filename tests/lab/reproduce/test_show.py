"""Tables as lines, each led by the id of its table."""

from __future__ import annotations

from dataclasses import replace

from lab.reproduce.entries import entry

from filtersmith.lab.papers.published import compared_with, table, tables
from filtersmith.lab.papers.sets import needed
from filtersmith.lab.reproduce.arms import arm_of
from filtersmith.lab.reproduce.ledger import Entry
from filtersmith.lab.reproduce.measured import Setting, measure
from filtersmith.lab.reproduce.show import listing, numbered, ours_cell, recipes, result
from filtersmith.lab.results.statistics import paired_difference


def entries() -> list[Entry]:
    of = table("repr/table1")
    base, ours = (arm_of(of.row(number), of) for number in (1, 3))
    return [
        entry(arm, seed, [x + 0.1, x + seed / 100]) for arm, x in ((base, 0.7), (ours, 0.75)) for seed in range(3)
    ]


def test_the_list_has_every_table_with_its_claim_and_what_was_measured() -> None:
    lines = list(listing(entries()))
    for of in tables():
        assert f"  {of.id}: {of.claim}" in lines
    place = lines.index(f"  repr/table1: {table('repr/table1').claim}")
    assert "    8 rows, 8 trained; CIFAR-10 · full schedule: 6 runs (" in lines[place + 1]
    assert any(line.startswith("    needs ImageNet (ILSVRC 2012 from image-net.org, ") for line in lines)
    detection = lines[lines.index(f"  repr/table7: {table('repr/table7').claim}") + 2]
    assert detection.startswith("    needs COCO (")
    assert detection.endswith("; ImageNet (" + needed("imagenet").partition("(")[2]), "for the backbones"
    assert sum("nothing measured yet" in line for line in lines) > 30


def test_rows_stand_beside_the_papers_with_a_verdict_and_the_rule() -> None:
    of = table("repr/table1")
    setting = Setting("CIFAR-10", "d")
    lines = list(result(of, measure(of, entries(), setting), setting))
    assert all(line.startswith("repr/table1") for line in lines)
    assert "CIFAR-10 · full schedule" in lines[1]
    (row,) = [line for line in lines if line.startswith("repr/table1 3: ")]
    assert row.startswith(
        "repr/table1 3: C^3(32), RePr, S1 = 20, S2 = 10, N = 3, p = 0.3, criterion = Ortho, CIFAR-10"
    )
    assert "; paper 76.4; ours 76.00 ± 1.00 (3 seeds; best epoch 85.00); Δ paper +4.30, ours +5.00" in row
    assert "agrees: it holds D" in lines[-1]
    assert any("R1, inconsistent" in line for line in lines)


def test_errors_are_shown_as_errors() -> None:
    of = table("repr/table4")
    arm, setting = arm_of(of.row(3), of), Setting("CIFAR-10", "d")
    lines = list(result(of, measure(of, [entry(arm, 0, 0.75)], setting), setting))
    assert any("paper 27.9; ours 25.00 (1 seed; best epoch 25.00)" in line for line in lines)
    assert any(
        "repr/table4 1: C^3(32), parameters (x1000, without last FC); paper 20; ours 19.58" in x for x in lines
    )


def test_a_shortened_schedule_and_a_copy_of_the_data_are_said_in_every_title() -> None:
    of, setting = table("repr/table1"), Setting("CIFAR-10 (JPEG)", "d", 0.1)
    arm = arm_of(of.row(1), of, 0.1)
    found = measure(of, [entry(arm, 0, 0.5, scale=0.1, data="CIFAR-10 (JPEG)")], setting)
    lines = list(result(of, found, setting))
    assert "CIFAR-10 (JPEG) · 0.1 of the schedule" in lines[1]
    assert any("compressed again" in line for line in lines)


def test_each_choice_of_a_recipe_has_its_source() -> None:
    lines = list(recipes(table("wau/table1")))
    assert "wau/table1:   train.epochs = 164 (authors' TRAINING.md)" in lines
    assert sum("recipe wau-" in line for line in lines) == 4


def test_rows_of_several_machines_say_which_ran_where() -> None:
    of, setting = table("repr/table1"), Setting("CIFAR-10", "d")
    gpu = {"device": "NVIDIA H100", "cpu": "some processor"}
    moved = [one.model_copy(update={"environment": gpu}) if one.seed == 2 else one for one in entries()[1:]]
    lines = list(result(of, measure(of, moved, setting), setting))
    assert lines[1].endswith("; rows 1, 3 on CPU (some processor); rows 1, 3 on NVIDIA H100")
    one_machine = list(result(of, measure(of, entries(), setting), setting))
    assert one_machine[1].endswith("; on CPU (some processor)")


def test_rows_are_named_by_their_numbers() -> None:
    assert (numbered([3]), numbered([1, 3, 4])) == ("row 3", "rows 1, 3, 4")


def test_accuracy_that_is_lost_is_shown_as_the_paper_has_it() -> None:
    of = next(one for one in tables() if any("drop" in row.metric and row.trained for row in one.rows))
    row = next(row for row in of.rows if "drop" in row.metric and row.trained)
    other = compared_with(row, of)
    assert other is not None
    runs = [entry(arm_of(row, of), 0, 0.9), entry(arm_of(other[1], other[0]), 0, 0.93)]
    data = "CIFAR-100" if row.data == "cifar100" else "CIFAR-10"
    setting = Setting(data, "d")
    (line,) = [
        line
        for line in result(of, measure(of, [one.model_copy(update={"data": data}) for one in runs], setting), setting)
        if line.startswith(f"{of.id} {row.n}: ")
    ]
    assert "; ours 3.00 (1 seed); " in line, "no accuracy beside it"
    found = measure(of, [one.model_copy(update={"data": data}) for one in runs], setting)
    mine = next(one for one in found if one.row is row)
    gained = replace(mine, difference=paired_difference([0.95], [0.93]))
    assert ours_cell(of, gained) == "−2.00"


def test_the_best_epoch_is_shown_where_the_papers_rows_are_that() -> None:
    of, setting = table("repr/public"), Setting("CIFAR-10", "d")
    lines = list(result(of, measure(of, [entry(arm_of(of.row(1), of), 0, [0.7, 0.6])], setting), setting))
    assert "; ours 70.00 (best epoch) (1 seed; last epoch 60.00)" in lines[2]


def test_one_teacher_for_all_seeds_is_said() -> None:
    of, setting = table("repr/table2"), Setting("CIFAR-10", "d")
    lines = list(result(of, measure(of, [entry(arm_of(of.row(2), of))], setting), setting))
    assert "repr/table2: one teacher for all seeds of row 2: how much teachers differ is not in the interval" in lines
