from __future__ import annotations

import io

import pytest
from reference.example_results import by_method, compared, everything, run
from rich.console import Console

from filtersmith.lab.results import document as results
from filtersmith.lab.results import tables
from filtersmith.lab.results.markdown import to_markdown
from filtersmith.lab.results.numbers import MINUS
from filtersmith.lab.results.terminal import to_terminal


def test_the_cells_and_remarks_say_what_happened():
    table = tables.build_table(everything())
    baseline, long, kflo, asa, lost, never = table.rows
    assert baseline.figures == ("91.00 ± 1.00", "—", "—", "—", "—", "92.00", "19.6k")
    assert long.difference == "-81.00 [-108.33, -53.67]".replace("-", MINUS)
    assert (long.words, long.p) == ("worse by 53.67 to 108.33 points", "0.25 (0.50)")
    assert (kflo.words, kflo.detectable) == ("better by 1.52 to 6.48 points", "3.26")
    assert kflo.line == f"{kflo.words} (p 0.25, Holm 0.50; 3 pairs; these seeds would show 3.26)"
    assert (asa.difference, asa.words) == ("+6.50 (+7.00, +6.00)", "too few seeds to say (2 of 3 pairs)")
    assert (asa.p, asa.detectable, asa.line) == ("—", "—", asa.words)
    assert {(row.words, row.line) for row in (baseline, lost, never)} == {("—", "")}
    assert kflo.parameters == "25.4M / 11.2M"
    assert (asa.last, asa.note) == ("97.00 ± 0.00", "2 of 3 seeds, 1 failed")
    assert (lost.last, lost.note, lost.best) == ("failed", "0 of 3 seeds, 2 failed", "—")
    assert (never.last, never.note) == ("not run", "0 of 3 seeds")
    notes = "\n".join(table.remarks)
    assert "asa, seed 2, failed: the training loss is NaN in epoch 3" in notes
    assert "repr(s1=20), seed 2, was interrupted after 2 of 3 epochs." in notes


def test_times_are_printed_only_where_they_were_measured_alone():
    for alone in (False, True):
        comparison = everything().model_copy(update={"times_measured_alone": alone})
        table = tables.build_table(comparison)
        assert {len(row.figures) + 1 for row in table.rows} == {len(table.heads)} == {9 if alone else 8}
        assert [row.time for row in table.rows[::2]] == (["1.00", "2.50", "—"] if alone else [None] * 3)
        console = Console(width=80, file=io.StringIO())
        console.print(to_terminal([table]))
        assert isinstance(console.file, io.StringIO)
        shown = (to_markdown(table), console.file.getvalue(), " ".join(tables.legend([table])))
        assert [("Time" in text) for text in shown] == [alone] * 3


def test_the_legend_follows_the_number_of_seeds():
    def notes(comparison: results.Comparison) -> str:
        table = tables.build_table(comparison)
        return "\n".join((*table.remarks, *table.legend))

    assert "of several seeds mean ± sample standard deviation" in notes(everything())
    below = "Below 6 pairs p cannot reach 0.05, whatever the differences: it is at least 0.25 for 3 pairs, 0.125"
    assert below in notes(everything())
    for seeds in (1, 2):
        few = notes(by_method({"baseline": [0.5] * seeds, "wau": [0.6] * seeds}))
        assert "Δ: last epoch minus the baseline" in few
        assert [words for words in ("p (sign-flip", "Holm", "Detectable", "p cannot") if words in few] == []
    six = notes(by_method({"baseline": [0.5] * 6, "wau": [0.6] * 6}))
    assert [words for words in ("p (sign-flip", "up to 15 pairs", "Holm", "Detectable") if words not in six] == []
    assert "p cannot" not in six
    assert "Δ is empty: the comparison has no method named baseline" in notes(by_method({"wau": [0.5, 0.6]}))
    lost = everything().model_copy(update={"runs": (run("asa", 0, [0.4, 0.9, 0.97]),)})
    assert "Δ is empty: no method finished a seed that the baseline finished too" in notes(lost)


def test_a_table_of_two_seeds_shows_both_and_claims_nothing():
    table = tables.build_table(by_method({"baseline": [0.5, 0.5], "wau": [0.51, 0.48]}))
    assert table.heads == (
        *("Method", "Last epoch, %", "Δ to baseline [95% interval], points", "In words"),
        *("Best test epoch, %", "Parameters"),
    )
    wau = table.rows[1]
    assert wau.figures[1:3] == ("−0.50 (+1.00, −2.00)", "too few seeds to say")
    assert wau.line == "too few seeds to say (2 pairs)"
    assert tables.build_table(by_method({"baseline": [0.5], "wau": [0.51]})).rows[1].difference == "+1.00"


def test_equal_differences_have_no_interval():
    same, shifted = tables.build_table(by_method({"baseline": [0.5] * 3, "a": [0.5] * 3, "b": [0.75] * 3})).rows[1:]
    assert same.figures[1:5] == ("0.00", "the same in every seed", "1.00 (1.00)", "—")
    assert shifted.difference == "+25.00"
    assert shifted.words.startswith("+25.00 points in every seed")


def test_pairs_that_a_baseline_lost_are_missing():
    runs = [run("baseline", s, [0.5]) for s in range(3)] + [run("wau", s, [0.6 + 0.01 * s**2]) for s in range(4)]
    wau = tables.build_table(compared(runs)).rows[1]
    assert wau.note == "", "it finished every seed"
    assert wau.words.endswith("points (3 of 4 pairs)")
    assert "; 3 of 4 pairs; " in wau.line


@pytest.mark.parametrize(
    ("images", "points"), [(360, "0.28"), (10_000, "0.01"), (50_000, "0.002"), (1, "100.00"), (None, None)]
)
def test_the_points_of_one_test_image_are_said(images, points):
    comparison = by_method({"baseline": [0.5]}).model_copy(update={"test_images": images})
    expected = () if images is None else (f"One of the {images:,} test images is {points} points.",)
    assert tables.build_table(comparison).remarks == expected


def test_several_tables_have_one_legend():
    few = tables.build_table(everything())
    many = tables.build_table(by_method({"baseline": [0.5] * 4, "wau@resnet20": [0.6] * 4}))
    legend = tables.legend([few, many, few])
    assert len(legend) == len(set(legend))
    assert set(legend) == {*few.legend, *many.legend}
    console = Console(width=200, file=io.StringIO())
    console.print(to_terminal([few, many]))
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().count("Last epoch: ") == 1


def test_the_legend_says_what_an_arm_on_another_network_is_compared_with():
    accuracies = {"baseline": [0.5, 0.6], "baseline@resnet20": [0.75, 0.75], "wau@resnet20": [0.5, 0.7]}
    table = tables.build_table(by_method(accuracies))
    assert [row.method for row in table.rows] == list(accuracies)
    assert table.rows[1].difference.startswith("+20.00 (")
    (note,) = (note for note in table.legend if note.startswith("METHOD@NETWORK: "))
    assert "compared with the baseline on the one in the title" in note
    plain = tables.build_table(by_method({"baseline": [0.5], "wau(layers=['a@b'])": [0.5]}))
    assert "@NETWORK" not in "".join(plain.legend)


def test_parameters_set_to_zero_are_no_deployed_ones():
    sizes = {"parameters_deployed": 9_000, "sub_phases": ((1, 3),)}
    cut_off = run("prune", 0, [0.1], status="interrupted")  # before it pruned anything
    runs = [run("baseline", s, [0.5] * 3) for s in range(2)]
    runs += [cut_off, run("prune", 1, [0.5] * 3, **sizes)]
    table = tables.build_table(
        everything().model_copy(update={"methods": ("baseline", "prune"), "runs": tuple(runs)})
    )
    assert table.rows[1].parameters == "19.6k / 9.00k"
    assert "Deployed parameters that were set to zero for good do not count." in table.legend
    assert "set to zero" not in "".join(tables.build_table(everything()).legend)
