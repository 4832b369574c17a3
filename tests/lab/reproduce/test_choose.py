"""Which rows are asked for, and what is worth running next."""

from __future__ import annotations

import pytest
from lab.reproduce.entries import entry

from filtersmith.lab.papers.published import table, tables
from filtersmith.lab.reproduce.arms import arm_of
from filtersmith.lab.reproduce.choose import PRIORITY, by_value, chosen, missing


def numbers(name: str, rows: str | None) -> list[tuple[str, int]]:
    return [(one.table.id, one.row.n) for one in chosen(name, rows)]


def test_a_name_or_a_number() -> None:
    assert numbers("repr/table4", "C^3(32)") == [("repr/table4", n) for n in (3, 4, 5, 6)]
    assert numbers("repr/table4", "4") == [("repr/table4", 4), ("repr/table4", 3)], "with what it is compared with"
    assert numbers("repr/table4", "3, 46") == [("repr/table4", n) for n in (3, 46, 45)]
    assert numbers("wau/table6", "sync") == [("wau/table6", 10)]
    assert numbers("kflo/table3", "2") == [("kflo/table3", 2), ("kflo/table1", 4)], "of another table"
    assert len(numbers("repr/table4", None)) == 44


@pytest.mark.parametrize(
    ("name", "rows", "said"),
    [
        ("repr/table4", "99", "repr/table4 has no row 99"),
        ("repr/table4", "nothing", r"rows must be a number, or part of a name among C\^3\(32\), .*, got 'nothing'"),
        ("repr/table4", "", "rows must be a number, or part of a name"),
        (
            "repr/table5",
            "Inception v2",
            r"repr/table5: Inception v2 \(BN-Inception\) is in neither torchvision nor timm",
        ),
        ("repr/table4", "1", "is counted, not trained"),
        ("dacnn/table8", "Agent", "cited from others, not run again"),
    ],
)
def test_what_cannot_be_run_says_why(name: str, rows: str | None, said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        chosen(name, rows)
    assert "\n" not in str(error.value)


def test_a_run_from_scratch_is_not_missing_where_that_is_asked_for() -> None:
    rows = chosen("repr/table7", "5")
    arms = [arm_of(one.row, one.table) for one in rows]
    there = [entry(arms[0].from_scratch()), entry(arms[1])]
    assert list(missing(rows, range(1), there, 1.0)) == []
    assert [one.row.n for one, _ in missing(rows, range(1), there[1:], 1.0)] == [5]


def test_the_next_runs_begin_with_one_claim_a_paper_and_end_with_every_row() -> None:
    order = [(one.table.id, one.row.n) for one in by_value({})]
    assert len(order) == len(set(order)) == sum(len(of.trained()) for of in tables())
    first = dict.fromkeys(name.split("/")[0] for name, _ in order[:20])
    assert set(first) == {"wau", "repr", "kflo", "dacnn"}
    for name, rows in PRIORITY:
        assert all(table(name).row(number).trained for number in rows)


def test_what_the_ledger_has_is_not_missing() -> None:
    rows = chosen("repr/table1", "3")
    arm = arm_of(rows[0].row, rows[0].table)
    there = [entry(arm, seed=0), entry(arm, seed=2)]
    found = [(one.row.n, seed) for one, seed in missing(rows, range(3), there, 1.0)]
    assert found == [(3, 1), (1, 0), (1, 1), (1, 2)]
    twice = [*rows, *chosen("repr/table2", "3")]
    assert list(missing(twice, range(3), there, 1.0)) == list(missing(rows, range(3), there, 1.0)), "the same runs"
