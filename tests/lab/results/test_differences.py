"""The figure of the differences: where every seed, interval and mean lies, and what lies beyond the axis."""

from __future__ import annotations

import csv
import doctest
from itertools import combinations
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.example_results import by_method, compared, everything, run

from filtersmith.lab.results import differences
from filtersmith.lab.results.differences import (
    EDGE,
    NEAR,
    Chart,
    Compared,
    Subject,
    chart_of,
    difference_chart,
    stacked,
)
from filtersmith.lab.results.document import Comparison
from filtersmith.lab.results.statistics import Difference, summarize

pytest.importorskip("matplotlib", reason="the figures need the extra filtersmith[report]")


def chart(comparison: Comparison) -> Chart:
    found = difference_chart(summarize(comparison), "accuracy")
    assert found is not None
    return found


def test_every_seed_its_interval_and_its_mean_lie_on_one_axis() -> None:
    base = [0.90, 0.91, 0.92]
    found = chart(by_method({"baseline": base, "wau": [0.91, 0.93, 0.92], "asa": [0.88, 0.89, 0.895]}))
    assert found.baseline == "91.00"
    assert [label for _, label in found.ticks] == ["−4", "−2", "0", "+2", "+4"]
    assert [place for place, _ in found.ticks] == [EDGE, 27.5, 50, 72.5, 100 - EDGE]
    assert found.zero == 50
    point = 22.5 / 2  # percent of the width that is one percentage point

    wau, asa = found.lines
    assert [dot.x for dot in wau.dots] == pytest.approx([50, 50 + point, 50 + 2 * point])
    assert (wau.mean, wau.verdict) == (pytest.approx(50 + point), "open")
    half = 4.302653 * 0.01 / 3**0.5  # Student's t of two degrees of freedom, spread, pairs
    assert wau.interval == pytest.approx((50 + point * (1 - 100 * half), 50 + point * (1 + 100 * half)), abs=1e-3)
    assert (asa.verdict, asa.words) == ("worse", "worse by 1.45 to 2.88 points")
    assert asa.evidence.startswith("p 0.25, Holm 0.50; 3 pairs")
    assert asa.description == "mean −2.17 points; 95% interval −2.88 to −1.45; seeds −2.00, −2.00, −2.50"
    assert not found.cut


def test_fewer_than_three_pairs_show_points_and_no_interval() -> None:
    two = chart(by_method({"baseline": [0.5, 0.5], "wau": [0.5, 0.52]}))
    (line,) = two.lines
    assert (len(line.dots), line.interval, line.verdict, line.words) == (2, None, "open", "too few seeds to say")
    assert line.mean == pytest.approx(sum(dot.x for dot in line.dots) / 2)
    assert (two.means, two.intervals) == (True, False)
    one = chart(by_method({"baseline": [0.5], "wau": [0.52]}))
    assert (len(one.lines[0].dots), one.means) == (1, False)
    assert one.lines[0].description == "mean +2.00 points; seed +2.00"


def test_the_lines_are_the_methods_of_the_table_in_their_order_with_or_without_pairs() -> None:
    found = chart(everything())
    assert [line.label for line in found.lines] == list(everything().methods[1:])
    assert [line.words for line in found.lines[-2:]] == ["failed", "not run"]
    assert all(not line.dots and line.mean is None and not line.description for line in found.lines[-2:])
    assert len(found.lines[2].dots) == 2, "asa: one of three seeds failed"
    alone = compared([run("baseline", 0, [0.5]), run("wau", 0, [0.5]), run("asa", 1, [0.6])])
    assert chart(alone).lines[1].words == "no seed in common with the baseline"
    assert difference_chart(summarize(by_method({"wau": [0.5]})), "accuracy") is None


def test_a_method_that_is_far_off_does_not_press_the_others_together() -> None:
    base = [0.90, 0.91, 0.92]
    near = {name: [value + d for value, d in zip(base, (0.00, 0.01, 0.01), strict=True)] for name in ("wau", "asa")}
    found = chart(by_method({"baseline": base, **near, "ema": [0.3, 0.31, 0.33]}))
    assert found.ticks[0][1] == "−1"
    ema = found.lines[-1]
    assert (ema.left, ema.right, ema.mean, ema.interval, ema.dots) == (True, False, None, None, ())
    assert ema.words.startswith("worse by 5")
    assert found.cut
    assert not any(line.left or line.right for line in found.lines[:2])
    assert not chart(by_method({"baseline": base, "ema": [0.3, 0.31, 0.33]})).cut, "alone it sets the axis"


def test_equal_seeds_are_all_seen() -> None:
    one = chart(by_method({"baseline": [0.5], "wau": [0.5]}))
    assert [label for _, label in one.ticks] == ["−1.0", "−0.5", "0", "+0.5", "+1.0"]
    many = chart(by_method({"baseline": [0.5] * 20, "wau": [0.5] * 20, "asa": [0.51] * 20}))
    for line in many.lines:
        assert len({dot.x for dot in line.dots}) == 1
        assert len({dot.y for dot in line.dots}) == 20
        assert max(abs(dot.y) for dot in line.dots) < line.height / 2


@patch("gc.collect", int)  # statsmodels collects garbage at every call, of all that the other tests have left
@settings(max_examples=50)
@given(st.lists(st.lists(st.integers(0, 40), min_size=4, max_size=4), min_size=2, max_size=6))
def test_no_seed_is_lost_and_none_covers_another(methods: list[list[int]]) -> None:
    names = ["baseline", *(f"wau(rate=0.{i})" for i in range(1, len(methods)))]
    comparison = by_method({n: [v / 40 for v in values] for n, values in zip(names, methods, strict=True)})
    summaries = summarize(comparison)
    found = difference_chart(summaries, "accuracy")
    assert found is not None
    for line, summary in zip(found.lines, summaries[1:], strict=True):
        assert summary.difference is not None
        assert len(line.dots) == 4 or line.left or line.right
        assert all(EDGE <= dot.x <= 100 - EDGE for dot in line.dots)
        for one, other in combinations(line.dots, 2):
            assert one.y != other.y or abs(one.x - other.x) >= NEAR
        if line.interval and line.mean:
            assert line.interval[0] <= line.mean <= line.interval[1]


def test_points_are_stacked_around_the_middle_of_their_line() -> None:
    assert [(dot.x, dot.y) for dot in stacked([60.0, 50.0, 53.0, 50.1])] == [
        *((50.0, 0), (50.1, 7.5), (53.0, 0), (60.0, 0))
    ]
    assert stacked([]) == ()


def test_the_data_and_the_words_of_the_whole_figure() -> None:
    found = chart(everything()).picture
    assert found.caption == "Difference to the baseline, percentage points"
    assert found.alt == "3 methods against the baseline, by interval: 1 better, 1 worse, 1 open"
    heads, *rows = csv.reader(found.csv.splitlines())
    assert heads[-3:] == ["seed 0", "seed 1", "seed 2"]
    assert [row[0] for row in rows] == list(everything().methods[1:4])
    kflo, asa = (dict(zip(heads, row, strict=True)) for row in rows[1:])
    assert [float(kflo[f"seed {seed}"]) for seed in range(3)] == [5, 4, 3]
    assert (float(kflo["mean"]), kflo["in words"]) == (4, "better by 1.52 to 6.48 points")
    assert (asa["interval low"], asa["p"], asa["seed 2"]) == ("", "", ""), "one of its seeds failed"
    lost = compared([run("baseline", 1, [0.5]), run("wau", 0, [0.1]), run("wau", 1, [0.6])])
    assert chart(lost).picture.csv.splitlines()[1] == "wau,too few seeds to say,10.0,,,,,,10.0"


def test_what_a_paper_reports_is_a_mark_on_the_same_axis() -> None:
    subject = Subject("Caption", "How it is read.", "row", "another row")
    seen = Difference(0.01, 0.005, 0.015, (0.01, 0.008, 0.012))
    near = Compared("a", seen, "better", "p", (0, 1, 2), published=0.02)
    found = chart_of([near, Compared("b", seen, "better", "p", (0, 1, 2))], subject, range(3))
    assert found is not None
    (with_mark, without) = found.lines
    assert (found.published, found.lead, found.baseline) == (True, "How it is read.", "")
    assert with_mark.published == next(place for place, label in found.ticks if label == "+2.0")
    assert with_mark.description.endswith("; paper +2.00")
    assert (without.published, "paper" in without.description) == (None, False)
    assert found.picture.alt == (
        "2 rows against another row, by interval: 2 better, 0 worse, 0 open; the paper's difference is marked in "
        "1 line"
    )
    heads, first, second = csv.reader(found.picture.csv.splitlines())
    assert (heads[0], heads[8:]) == ("row", ["paper", "seed 0", "seed 1", "seed 2"])
    assert (first[8], second[8]) == ("2.0", "")
    assert not chart(everything()).published


def test_a_published_difference_far_off_lies_beyond_the_axis() -> None:
    subject = Subject("Caption", "How it is read.", "row", "another row")
    seen = Difference(0.01, None, None, (0.01,))
    lines = [
        Compared(name, seen, "", "", (0,), published) for name, published in (("a", 0.9), ("b", 0.0), ("c", None))
    ]
    found = chart_of(lines, subject, [0])
    assert found is not None
    assert (found.lines[0].right, found.lines[0].published, len(found.lines[0].dots)) == (True, None, 1)
    assert found.cut


def test_the_examples_in_the_docstrings() -> None:
    results = doctest.testmod(differences)
    assert (results.failed, results.attempted > 0) == (0, True)
