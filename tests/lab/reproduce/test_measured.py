"""What the ledger says of a table: ours beside the paper's, paired by seed, nothing mixed."""

from __future__ import annotations

import pytest
from lab.reproduce.entries import entry

from filtersmith import zoo
from filtersmith.lab.papers.published import Table, compared_with, table, tables
from filtersmith.lab.reproduce.arms import alike, arm_of
from filtersmith.lab.reproduce.ledger import Entry
from filtersmith.lab.reproduce.measured import Measured, Setting, counted, measure, settings

FULL = Setting("CIFAR-10", "d")


def runs(of: Table, number: int, accuracies: list[float], scale: float = 1.0, **changed: object) -> list[Entry]:
    arm = arm_of(of.row(number), of, scale)
    return [entry(arm, seed, one, scale=scale, **changed) for seed, one in enumerate(accuracies)]


def by_number(found: list[Measured]) -> dict[int, Measured]:
    return {one.row.n: one for one in found}


def test_differences_are_paired_by_seed_and_judged() -> None:
    of = table("repr/table1")
    base, better = [0.70, 0.71, 0.72, 0.70], [0.743, 0.754, 0.762, 0.741]
    found = by_number(measure(of, [*runs(of, 1, base), *runs(of, 3, better)], FULL))
    one = found[3]
    assert one.last is not None
    assert one.last.mean == pytest.approx(sum(better) / 4)
    assert one.seeds == one.paired == (0, 1, 2, 3)
    assert found[1].paired == ()
    lost = by_number(measure(of, [*runs(of, 1, base)[1:], *runs(of, 3, better)], FULL))[3]
    assert (lost.seeds, lost.paired) == ((0, 1, 2, 3), (1, 2, 3))
    assert one.difference is not None
    assert one.difference.values == pytest.approx([b - a for a, b in zip(base, better, strict=True)])
    assert one.published == pytest.approx(0.043)
    assert str(one.verdict) == "agrees"
    assert one.hardware == ("CPU (some processor)",)
    assert found[1].verdict is None
    assert str(found[2].verdict) == "cannot tell with 0 seeds (none has both runs yet)"
    assert {*found} == {1, 2, 3, 4}, "not those on CIFAR-100"


def test_errors_are_lower_where_they_are_better() -> None:
    of = table("repr/table4")
    found = by_number(measure(of, [*runs(of, 3, [0.7, 0.71, 0.72]), *runs(of, 4, [0.75, 0.76, 0.775])], FULL))
    assert found[4].published == pytest.approx(0.043)
    assert found[4].difference is not None
    assert found[4].difference.mean > 0
    assert str(found[4].verdict) in ("agrees", "direction holds")


def test_accuracy_that_is_lost_is_a_difference_itself() -> None:
    of, other = table("dacnn/table8"), table("dacnn/table7")
    entries = [*runs(other, 1, [0.90, 0.91, 0.92]), *runs(of, 13, [0.893, 0.901, 0.912])]
    one = by_number(measure(of, entries, FULL))[13]
    assert one.published == pytest.approx(-0.0079)
    assert one.difference is not None
    assert one.difference.mean == pytest.approx(-0.008, abs=1e-3)


def test_phases_of_one_run_are_rows() -> None:
    of = table("wau/table4")
    accuracies = [0.2, 0.5, 0.4, 0.7, 0.6, 0.8]
    arm = arm_of(of.row(1), of)
    entries = [entry(arm, seed, accuracies, phase_starts=(2, 4)) for seed in range(2)]
    found = by_number(measure(of, entries, FULL))
    assert [found[n].last.mean for n in (1, 2, 3)] == pytest.approx([0.5, 0.7, 0.8])  # type: ignore[union-attr]
    assert [found[n].best.mean for n in (1, 2, 3)] == pytest.approx([0.5, 0.7, 0.8])  # type: ignore[union-attr]
    assert found[2].difference is not None
    assert found[2].difference.mean == pytest.approx(0.2)
    assert found[3].difference is not None
    assert found[3].difference.mean == pytest.approx(0.3)


def test_best_epochs_are_compared_where_the_paper_has_those_alone() -> None:
    of = table("repr/public")
    entries = [*runs(of, 1, [[0.6, 0.5]] * 3), *runs(of, 2, [[0.7, 0.4]] * 3)]  # type: ignore[list-item]
    one = by_number(measure(of, entries, FULL))[2]
    assert one.last is not None
    assert one.last.mean == pytest.approx(0.4)
    assert one.difference is not None
    assert one.difference.mean == pytest.approx(0.1)


def test_a_table_mixes_no_data_schedules_precisions_or_old_code() -> None:
    of = table("repr/table1")
    entries = [
        *runs(of, 1, [0.7]),
        *runs(of, 1, [0.6], data="CIFAR-10 (JPEG)", data_digest="e"),
        *runs(of, 1, [0.5], scale=0.1),
        *runs(of, 1, [0.4], precision="bf16"),
        *runs(of, 1, [0.3], maths={"training": 99}),
        *runs(table("wau/table6"), 10, [0.2]),
    ]
    found = settings(of, entries)
    assert found == [
        Setting("CIFAR-10", "d", precision="bf16"),
        FULL,
        Setting("CIFAR-10 (JPEG)", "e"),
        Setting("CIFAR-10", "d", scale=0.1),
    ]
    for setting, accuracy in zip(found, (0.4, 0.7, 0.6, 0.5), strict=True):
        one = by_number(measure(of, entries, setting))[1]
        assert one.last is not None
        assert one.last.mean == pytest.approx(accuracy)


def test_other_data_is_not_comparable() -> None:
    of = table("repr/table1")
    entries = [*runs(of, 1, [0.7] * 3, data="digits"), *runs(of, 3, [0.8] * 3, data="digits")]
    assert str(by_number(measure(of, entries, Setting("digits", "d")))[3].verdict) == "not comparable (data)"


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [("repr/table4", 1.0), ("dacnn/table3", 0.14), ("dacnn/table4", 3.0), ("dacnn/table8", 0.6)],
)
def test_counts_are_near_the_printed_ones(name: str, tolerance: float) -> None:
    of = table(name)
    rows = [row for row in of.rows if row.kind == "parameters" and "densenet-5" not in row.network]
    assert rows
    for row in rows:
        assert row.value is not None
        assert counted(row, of) == pytest.approx(row.value, abs=tolerance), f"{name} {row.n}"


def test_multiply_adds_stand_for_inference_time() -> None:
    of = table("repr/table4")
    assert counted(of.row(2), of) == 1.0
    assert counted(of.row(8), of) == zoo.multiply_adds("vanilla-8-32", 10) / zoo.multiply_adds("vanilla", 10)
    assert counted(of.row(3), of) is None


def test_rows_that_a_short_schedule_makes_the_same_run_are_not_told_apart() -> None:
    of = table("repr/fig5-right")
    arms = {row.n: arm_of(row, of, 0.03) for row in of.trained()}
    assert arms[2].key == arms[3].key
    base, swept = (entry(arms[number], 0, 0.5, scale=0.03) for number in (1, 2))
    found = {one.row.n: one for one in measure(of, [base, swept], Setting("CIFAR-10", "d", 0.03))}
    assert found[1].seeds == (0,)
    assert (found[2].seeds, found[2].last, found[2].verdict) == ((), None, None)
    assert 3 in found[2].alike
    assert 2 in found[3].alike


def test_a_row_that_lost_its_own_lengths_is_left_out_also_where_the_others_have_theirs() -> None:
    of = table("repr/fig5-right")
    arms = {row.n: arm_of(row, of, 0.3) for row in of.trained()}
    assert len({arm.key for arm in arms.values()}) == len(arms)
    assert [arms[n].method for n in (2, 3)] == ["repr", "repr(s1=1,s2=1,cycles=3)"]
    assert {n: alike(of.row(n), of, 0.3) for n in arms} == {1: (), 2: (3, 4, 5), 3: (), 4: (), 5: ()}


def test_a_flow_that_is_too_short_for_its_phases_measures_none_of_them() -> None:
    of = table("wau/table4")
    for starts, seeds in (((1, 2), (0,)), ((1,), ()), ((), ())):
        runs = [
            entry(arm_of(of.row(number), of, 0.1), 0, [0.4, 0.5, 0.6], scale=0.1, phase_starts=starts)
            for number in (1, 2, 3)
        ]
        found = measure(of, runs, Setting("CIFAR-10", "d", 0.1))
        assert [one.seeds for one in found if one.row.n in (1, 2, 3)] == [seeds] * 3


def test_the_best_epoch_is_that_of_the_phase() -> None:
    of = table("repr/public")
    base, ours = (arm_of(of.row(number), of) for number in (1, 2))
    found = {
        one.row.n: one
        for one in measure(of, [entry(base, 0, [0.7, 0.6]), entry(ours, 0, [0.65, 0.75])], Setting("CIFAR-10", "d"))
    }
    assert found[2].difference is not None
    assert found[2].difference.mean == pytest.approx(0.05), "of the best epochs, as the rows are"


def test_rows_that_are_compared_are_of_the_same_epoch_and_train_on_as_many_images() -> None:
    for of in tables():
        for row in of.trained():
            other = compared_with(row, of)
            if other is not None and other[1].trained:
                assert (row.reported, row.holdout) == (other[1].reported, other[1].holdout), (of.id, row.n)


def test_the_p_values_of_a_table_are_corrected_together() -> None:
    of = table("repr/table1")
    runs = [
        entry(arm_of(of.row(number), of), seed, base + seed * step)
        for number, base, step in ((1, 0.5, 0.01), (2, 0.6, 0.02), (3, 0.7, 0.03))
        for seed in range(3)
    ]
    differences = [one.difference for one in measure(of, runs, Setting("CIFAR-10", "d")) if one.difference]
    assert [(one.p, one.p_holm) for one in differences] == [(0.25, 0.5), (0.25, 0.5)]


def test_rows_of_one_run_are_its_scores() -> None:
    of = table("wau/table2")
    base, ours = (arm_of(of.row(number), of) for number in (1, 3))
    runs = [
        entry(
            arm, seed, [0.1, ap + seed / 100], data="COCO", scores={"AP50": [0.2, ap50 + seed / 50], "AP75": [0, 0]}
        )
        for arm, ap, ap50 in ((base, 0.26, 0.46), (ours, 0.28, 0.47))
        for seed in range(3)
    ]
    found = by_number(measure(of, runs, Setting("COCO", "d")))
    means = {number: one.last.mean for number, one in found.items() if one.last is not None}
    assert means == pytest.approx({1: 0.48, 2: 0.27, 3: 0.49, 4: 0.29})
    differences = {number: one.difference.mean for number, one in found.items() if one.difference is not None}
    assert differences == pytest.approx({3: 0.01, 4: 0.02})
    assert [one.published for one in found.values()] == [None, None, pytest.approx(0.012), pytest.approx(0.005)]
    assert all(
        one.verdict is not None and one.verdict.word != "not comparable (data)" for one in list(found.values())[2:]
    )
    without = [one.model_copy(update={"scores": {}}) for one in runs]
    assert {n: len(one.seeds) for n, one in by_number(measure(of, without, Setting("COCO", "d"))).items()} == {
        1: 0,
        2: 3,
        3: 0,
        4: 3,
    }


def test_runs_from_scratch_are_rows_of_a_setting_of_their_own_and_not_comparable() -> None:
    of = table("repr/table7")
    arms = [arm_of(of.row(number), of) for number in (2, 6)]
    runs = [entry(arm, seed, 0.4, data="COCO") for arm in arms for seed in range(3)]
    runs += [
        entry(arm.from_scratch(), seed, 0.2, data="COCO from scratch", data_digest="e")
        for arm in arms
        for seed in range(3)
    ]
    found = settings(of, runs)
    assert found == [Setting("COCO", "d"), Setting("COCO from scratch", "e")]
    whole, scratch = (by_number(measure(of, runs, setting))[6] for setting in found)
    assert whole.last is not None
    assert scratch.last is not None
    assert (whole.last.mean, scratch.last.mean) == pytest.approx((0.4, 0.2))
    assert str(scratch.verdict) == "not comparable (data)"
    assert str(whole.verdict) != "not comparable (data)"


def test_rounds_of_one_run_are_rows_measured_before_the_next_one_prunes() -> None:
    of = table("repr/table5")
    arm, errors = arm_of(of.row(2), of), [0.9, 0.8, 0.95, 0.6, 0.5, 0.97, 0.3, 0.4, 0.98, 0.2]
    phases = ((2, 3), (5, 6), (8, 9))
    run = entry(arm, 0, [1 - error for error in errors], data="ImageNet", sub_phases=phases)
    found = by_number(measure(of, [run], Setting("ImageNet", "d")))
    assert [1 - found[n].last.mean for n in (2, 3, 4)] == pytest.approx([0.5, 0.4, 0.2])  # type: ignore[union-attr]
    assert [1 - found[n].best.mean for n in (2, 3, 4)] == pytest.approx([0.5, 0.3, 0.2])  # type: ignore[union-attr]
    short = run.model_copy(update={"sub_phases": phases[:1]})
    assert [by_number(measure(of, [short], Setting("ImageNet", "d")))[n].seeds for n in (2, 3, 4)] == [()] * 3
