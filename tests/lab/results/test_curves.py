"""The curves: what they are of several seeds, their phases, their data."""

from __future__ import annotations

import csv
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.example_results import compared, everything, run

from filtersmith.lab.results import curves, figures

pytest.importorskip("matplotlib", reason="the figures need the extra filtersmith[report]")


def test_a_curve_is_the_mean_with_the_lowest_and_highest_seed_and_gaps_where_nothing_is_known() -> None:
    runs = [run("baseline", 0, [0.2, 0.9]), run("baseline", 1, [0.4, 0.5])]
    lost = [epoch.model_copy(update={"train_loss": None}) for epoch in runs[0].epochs]
    runs[0] = runs[0].model_copy(update={"epochs": tuple(lost), "phase_starts": (1,)})
    comparison = compared(runs)

    (accuracy,) = curves.curves(comparison, lambda epoch: epoch.test_accuracy)
    assert accuracy.mean == pytest.approx((0.3, 0.7))
    assert (accuracy.low, accuracy.high) == ((0.2, 0.5), (0.4, 0.9))
    (loss,) = curves.curves(comparison, lambda epoch: epoch.train_loss)
    assert loss.mean == (1.0, 0.5)  # of the seed that has one

    axes = curves.draw([accuracy], figures.method_styles([comparison])).axes[0]
    line, phase = axes.lines
    assert list(line.get_ydata()) == pytest.approx([0.3, 0.7])
    assert list(phase.get_xdata()) == [1.5, 1.5]


def test_the_last_half_is_shown_apart_when_there_are_epochs_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    curve = curves.Curve("wau", (1, 2, 3, 4), (0.1, 0.2, 0.3, 0.4), (0.1,) * 4, (0.5,) * 4, (1, 3), ((1, 2), (2, 3)))
    axes = curves.draw([curve], {"wau": figures.Style("#000000", "solid")}, first=3).axes[0]
    line, *phases = axes.lines
    assert list(line.get_xdata()) == [3, 4]
    *phases, restored = phases
    assert [list(phase.get_xdata()) for phase in phases] == [[3.5, 3.5]]  # the phase before the part is left out
    assert (list(restored.get_xdata()), list(restored.get_ydata())) == ([3], [0.3])
    assert [(shade.get_x(), shade.get_x() + shade.get_width()) for shade in axes.patches] == [(3, 3.5)]
    monkeypatch.setattr(figures, "svg", lambda figure: b"")  # which takes its time
    captions = [
        [picture.caption for picture in curves.curve_pictures(one, figures.method_styles([one]))]
        for one in (compared([run("baseline", 0, [0.1] * epochs)]) for epochs in (8, 7))
    ]
    assert captions == [
        ["Test accuracy, %, by epoch", "Test accuracy, %, last half, by epoch", "Training loss, by epoch"],
        ["Test accuracy, %, by epoch", "Training loss, by epoch"],
    ]


def test_what_is_pruned_for_good_is_never_shown_as_restored() -> None:
    curve = curves.Curve("prune", (1, 2, 3, 4), (0.1, 0.2, 0.3, 0.4), (0.1,) * 4, (0.5,) * 4, (), ((2, 4),))
    axes = curves.draw([curve], {"prune": figures.Style("#000000", "solid")}).axes[0]
    _, *marks = axes.lines
    assert [(list(mark.get_xdata()), mark.get_marker()) for mark in marks] == [([2], "v")]
    assert [(shade.get_x(), shade.get_x() + shade.get_width()) for shade in axes.patches] == [(2.5, 4.5)]


@settings(max_examples=25)
@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=4))
def test_the_mean_lies_in_the_band_of_the_seeds(seeds: list[list[float]]) -> None:
    runs = [run("wau", seed, values, sub_phases=((1, 2 + seed % 2),)) for seed, values in enumerate(seeds)]
    (curve,) = curves.curves(compared(runs), lambda epoch: epoch.test_accuracy)
    assert curve.epochs == (1, 2, 3)
    assert curve.sub_phases == (((1, 2), (1, 3)) if len(seeds) > 1 else ((1, 2),)), "each once"
    for number, column in enumerate(zip(*seeds, strict=True)):
        assert (curve.low[number], curve.high[number]) == (min(column), max(column))
        assert curve.mean[number] == pytest.approx(sum(column) / len(column))


def test_methods_without_a_finished_run_or_a_value_have_no_curve() -> None:
    comparison = everything()
    found = curves.curves(comparison, lambda epoch: None)
    assert len(found) == 4
    assert {curve.method for curve in found} < set(comparison.methods)
    assert all(math.isnan(value) for curve in found for value in (*curve.mean, *curve.low, *curve.high))


def test_bands_are_drawn_of_so_few_methods_that_they_can_be_told_apart() -> None:
    for count, bands in ((curves.MOST_BANDS, curves.MOST_BANDS), (curves.MOST_BANDS + 1, 0)):
        comparison = compared(
            [run(f"wau(rate=0.{n})", seed, [0.1, 0.2]) for n in range(1, count + 1) for seed in (0, 1)]
        )
        lines = curves.curves(comparison, lambda epoch: epoch.test_accuracy)
        assert len(curves.draw(lines, figures.method_styles([comparison])).axes[0].collections) == bands


def test_the_data_are_those_of_the_picture() -> None:
    lost = curves.Curve("@wau", (1, 2, 3), (0.1, math.nan, 0.3), (0.1, math.nan, 0.2), (0.1, math.nan, 0.4), (), ())
    rows = list(csv.reader(curves.curves_csv([lost], first=2).splitlines()))
    assert rows[0] == ["method", "epoch", "mean", "lowest seed", "highest seed"]
    assert rows[1:] == [["'@wau", "2", "", "", ""], ["'@wau", "3", "0.3", "0.2", "0.4"]]
