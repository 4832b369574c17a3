"""The figures, read from their own lines: curves with their phases, accuracy against size, styles."""

from __future__ import annotations

import base64
import doctest
import math
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.example_results import by_method, compared, everything, run, sized

from filtersmith.lab.results import figures

pytest.importorskip("matplotlib", reason="the figures need the extra filtersmith[report]")


def test_a_curve_is_the_mean_with_the_lowest_and_highest_seed_and_gaps_where_nothing_is_known() -> None:
    runs = [run("baseline", 0, [0.2, 0.9]), run("baseline", 1, [0.4, 0.5])]
    lost = [epoch.model_copy(update={"train_loss": None}) for epoch in runs[0].epochs]
    runs[0] = runs[0].model_copy(update={"epochs": tuple(lost), "phase_starts": (1,)})
    comparison = compared(runs)

    (accuracy,) = figures.curves(comparison, lambda epoch: epoch.test_accuracy)
    assert accuracy.mean == pytest.approx((0.3, 0.7))
    assert (accuracy.low, accuracy.high) == ((0.2, 0.5), (0.4, 0.9))
    (loss,) = figures.curves(comparison, lambda epoch: epoch.train_loss)
    assert loss.mean == (1.0, 0.5)  # of the seed that has one

    axes = figures.draw([accuracy], figures.method_styles([comparison])).axes[0]
    line, phase = axes.lines
    assert list(line.get_ydata()) == pytest.approx([0.3, 0.7])
    assert list(phase.get_xdata()) == [1.5, 1.5]


def test_the_last_half_is_shown_apart_when_there_are_epochs_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    curve = figures.Curve("wau", (1, 2, 3, 4), (0.1, 0.2, 0.3, 0.4), (0.1,) * 4, (0.5,) * 4, (1, 3), ((1, 2), (2, 3)))
    axes = figures.draw([curve], {"wau": figures.Style("#000000", "solid")}, first=3).axes[0]
    line, *phases = axes.lines
    assert list(line.get_xdata()) == [3, 4]
    *phases, restored = phases
    assert [list(phase.get_xdata()) for phase in phases] == [[3.5, 3.5]]  # the phase before the part is left out
    assert (list(restored.get_xdata()), list(restored.get_ydata())) == ([3], [0.3])
    assert [(shade.get_x(), shade.get_x() + shade.get_width()) for shade in axes.patches] == [(3, 3.5)]
    monkeypatch.setattr(figures, "svg", lambda figure: b"")  # which takes its time
    captions = [
        [picture.caption for picture in figures.curve_pictures(one, figures.method_styles([one]))]
        for one in (compared([run("baseline", 0, [0.1] * epochs)]) for epochs in (8, 7))
    ]
    assert captions == [
        ["Test accuracy, %", "Test accuracy, %, last half", "Training loss"],
        ["Test accuracy, %", "Training loss"],
    ]


def test_what_is_pruned_for_good_is_never_shown_as_restored() -> None:
    curve = figures.Curve("prune", (1, 2, 3, 4), (0.1, 0.2, 0.3, 0.4), (0.1,) * 4, (0.5,) * 4, (), ((2, 4),))
    axes = figures.draw([curve], {"prune": figures.Style("#000000", "solid")}).axes[0]
    _, *marks = axes.lines
    assert [(list(mark.get_xdata()), mark.get_marker()) for mark in marks] == [([2], "v")]
    assert [(shade.get_x(), shade.get_x() + shade.get_width()) for shade in axes.patches] == [(2.5, 4.5)]


def test_accuracy_against_size_is_drawn_where_sizes_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = sized(
        {"baseline": (1_500_000, [0.8, 0.9]), "wau": (1_500_000, [0.7, 0.9]), "dacnn": (150_000, [0.6])}
    )
    lost = run("kflo", 0, [0.1], status="failed", parameters_deployed=9)
    comparison = compared([*comparison.runs, lost])
    found = figures.points(comparison)
    assert [(p.method, p.size) for p in found] == [("baseline", 1_500_000), ("wau", 1_500_000), ("dacnn", 150_000)]
    assert [(p.mean, p.low, p.high) for p in found[:2]] == [pytest.approx((85, 80, 90)), pytest.approx((80, 70, 90))]

    styles = figures.method_styles([comparison])
    axes = figures.draw_sizes(found, styles).axes[0]
    assert [(line.get_xdata()[0], round(line.get_ydata()[0], 6)) for line in axes.lines] == [
        *((1_500_000, 85), (1_500_000, 80), (150_000, 60))
    ]
    assert [line.get_color() for line in axes.lines] == [styles[p.method].colour for p in found]
    bars = [tuple(map(tuple, bar.get_segments()[0])) for bar in axes.collections]
    assert bars[0] == (pytest.approx((1_500_000, 80)), pytest.approx((1_500_000, 90)))
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["200k", "500k", "1M"]

    monkeypatch.setattr(figures, "svg", lambda figure: b"two")
    picture = figures.size_picture(comparison, styles)
    assert picture is not None
    caption = "Test accuracy, %, by deployed parameters"
    assert picture.caption == caption
    assert base64.b64decode(picture.source.partition("data:image/svg+xml;base64,")[2]) == b"two"
    assert picture.alt == f"{caption}: baseline 1.50M 85.00%, wau 1.50M 80.00%, dacnn 150k 60.00%"
    equal = sized({"baseline": (1000, [0.8]), "wau": (1000, [0.9])})
    assert figures.size_picture(equal, figures.method_styles([equal])) is None


@settings(max_examples=25)
@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=4))
def test_the_mean_lies_in_the_band_of_the_seeds(seeds: list[list[float]]) -> None:
    runs = [run("wau", seed, values, sub_phases=((1, 2 + seed % 2),)) for seed, values in enumerate(seeds)]
    (curve,) = figures.curves(compared(runs), lambda epoch: epoch.test_accuracy)
    assert curve.epochs == (1, 2, 3)
    assert curve.sub_phases == (((1, 2), (1, 3)) if len(seeds) > 1 else ((1, 2),)), "each once"
    for number, column in enumerate(zip(*seeds, strict=True)):
        assert (curve.low[number], curve.high[number]) == (min(column), max(column))
        assert curve.mean[number] == pytest.approx(sum(column) / len(column))


def test_methods_without_a_finished_run_or_a_value_have_no_curve() -> None:
    comparison = everything()
    found = figures.curves(comparison, lambda epoch: None)
    assert len(found) == 4
    assert {curve.method for curve in found} < set(comparison.methods)
    assert all(math.isnan(value) for curve in found for value in (*curve.mean, *curve.low, *curve.high))


def test_a_method_has_one_style_in_all_sections_and_the_baseline_always_the_same() -> None:
    names = [f"wau(rate=0.{i})" for i in range(1, 20)]
    first = by_method({"baseline": [0.5], **{name: [0.5] for name in names}})
    second = by_method({name: [0.5] for name in reversed(names)})
    styles = figures.method_styles([first, second])
    assert list(styles) == ["baseline", *names]
    assert len({(style.colour, style.dash) for style in styles.values()}) == len(styles)
    assert styles["baseline"] == figures.method_styles([second])["baseline"]
    for style in styles.values():  # the legend of the page draws what the figure does
        assert (style.svg_dash == "none") == (style.dash == "solid")
        assert style.svg_marker.startswith("M")
    assert len({style.marker for style in styles.values()}) == len({style.svg_marker for style in styles.values()})


def test_a_figure_is_a_whole_svg_and_the_same_each_time() -> None:
    comparison = compared([run("baseline", 0, [0.1, 0.2])])
    styles = figures.method_styles([comparison])
    lines = figures.curves(comparison, lambda epoch: epoch.test_accuracy)
    first, second = (figures.svg(figures.draw(lines, styles)) for _ in range(2))
    assert first == second
    assert ET.fromstring(first).tag.endswith("svg")


def test_the_examples_in_the_docstrings() -> None:
    results = doctest.testmod(figures)
    assert (results.failed, results.attempted > 0) == (0, True)
