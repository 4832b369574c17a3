"""The figures, read from their own lines: accuracy against size and training time, styles."""

from __future__ import annotations

import base64
import doctest
import xml.etree.ElementTree as ET

import pytest
from reference.example_results import by_method, compared, everything, run, sized

from filtersmith.lab.results import curves, figures

pytest.importorskip("matplotlib", reason="the figures need the extra filtersmith[report]")


def test_accuracy_against_size_is_drawn_where_sizes_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = sized(
        {"baseline": (1_500_000, [0.8, 0.9]), "wau": (1_500_000, [0.7, 0.9]), "dacnn": (150_000, [0.6])}
    )
    lost = run("kflo", 0, [0.1], status="failed", parameters_deployed=9)
    comparison = compared([*comparison.runs, lost])
    found = figures.points(comparison)
    assert [(p.method, p.cost) for p in found] == [("baseline", 1_500_000), ("wau", 1_500_000), ("dacnn", 150_000)]
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
    assert picture.csv.splitlines()[1] == "baseline,1500000,85.0,80.0,90.0"
    equal = sized({"baseline": (1000, [0.8]), "wau": (1000, [0.9])})
    assert figures.size_picture(equal, figures.method_styles([equal])) is None


def test_accuracy_against_training_time_is_drawn_where_times_mean_something(monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = everything()  # the first of three epochs warms up
    styles = figures.method_styles([comparison])
    assert figures.time_picture(comparison, styles) is None, "nobody knows whether the machine was busy"
    alone = comparison.model_copy(update={"times_measured_alone": True})
    found = figures.timed_points(alone)
    assert [(p.method, p.cost) for p in found][::2] == [("baseline", 3), ("kflo(depth=2,width=4)", 7.5)]
    figure = figures.draw_times([figures.Point(p.method, 60 * p.cost, p.mean, p.low, p.high) for p in found], styles)
    assert [line.get_xdata()[0] for line in figure.axes[0].lines] == [3, 3, 7.5, 3]
    assert figure.axes[0].get_xlabel() == "training time of a run, min"

    monkeypatch.setattr(figures, "svg", lambda figure: b"two")
    picture = figures.time_picture(alone, styles)
    assert picture is not None
    assert "kflo(depth=2,width=4) 7.5 s 95.00%" in picture.alt
    assert picture.csv.splitlines()[0] == "method,seconds,mean accuracy,lowest seed,highest seed"


def test_the_time_of_a_seed_that_shared_the_machine_does_not_count() -> None:
    seconds = {0: [1.0], 1: [100.0]}
    runs = [run(m, s, [0.5], seconds[s], alone=s == 0) for m in ("baseline", "wau") for s in (0, 1)]
    shared = compared(runs)
    assert figures.timed_points(shared) == [], "the table shows no times either"
    own = [one for one in runs if (one.method, one.seed) != ("wau", 1)]
    unpaired = compared([one for one in own if one.seed == 0 or one.method == "baseline"])
    assert [(p.method, p.cost) for p in figures.timed_points(unpaired)] == [("baseline", 1), ("wau", 1)]


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
    lines = curves.curves(comparison, lambda epoch: epoch.test_accuracy)
    first, second = (figures.svg(curves.draw(lines, styles)) for _ in range(2))
    assert first == second
    assert ET.fromstring(first).tag.endswith("svg")


def test_the_examples_in_the_docstrings() -> None:
    results = doctest.testmod(figures)
    assert (results.failed, results.attempted > 0) == (0, True)
