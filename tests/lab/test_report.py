from __future__ import annotations

import base64
import html
import re
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
from example_results import by_method, compared, everything, run

from filtersmith.lab import report, results, tables

pytest.importorskip("jinja2", reason="the report needs the extra filtersmith[report]")
pytest.importorskip("matplotlib", reason="the report needs the extra filtersmith[report]")


class Page(HTMLParser):
    """Collects tags, addresses and visible text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href", "srcset", "action"}]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def page() -> str:
    return report.render([everything()])


def test_the_page_loads_nothing_and_shows_text_from_data_as_text(page):
    parsed = Page(page)
    assert all(address.startswith(("data:image/svg+xml;base64,", "#")) for address in parsed.addresses)
    assert "url(" not in page
    assert "@import" not in page
    assert not {"script", "link", "iframe", "b", "i"} & set(parsed.tags)
    for hostile in ("<script>alert(1)</script>", "<b>lower</b>", "<i>odd</i>|name"):
        assert html.escape(hostile) in page
        assert hostile in parsed.text


def test_the_page_holds_the_table_the_seeds_and_the_recipe(page):
    text = Page(page).text
    table = tables.build_table(everything())
    for cell in (cell for row in table.rows for cell in (row.method, row.note, *row.figures)):
        assert cell in text
    assert all(note in text for note in table.footnotes)
    assert "90.0091.00" in text  # the seed's last epoch, and below it its best one
    assert "train:\n  lr: 0.1\n" in text
    assert "2.15.0" in text
    assert "Dotted vertical lines" in text


def test_figures_are_whole_svg_and_the_page_is_the_same_each_time(page):
    sources = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)
    assert len(sources) == 2  # three epochs: no second accuracy figure of the last half
    for source in sources:
        assert ET.fromstring(base64.b64decode(source)).tag.endswith("svg")
    assert report.render([everything()]) == page


def test_a_curve_is_the_mean_with_the_lowest_and_highest_seed_and_gaps_where_nothing_is_known():
    runs = [run("baseline", 0, [0.2, 0.9]), run("baseline", 1, [0.4, 0.5])]
    lost = [epoch.model_copy(update={"train_loss": None}) for epoch in runs[0].epochs]
    runs[0] = runs[0].model_copy(update={"epochs": tuple(lost), "phase_starts": (1,)})
    comparison = compared(runs)

    accuracy = report._curve(comparison, "baseline", lambda epoch: epoch.test_accuracy)
    assert accuracy is not None
    assert accuracy.mean == pytest.approx((0.3, 0.7))
    assert (accuracy.low, accuracy.high) == ((0.2, 0.5), (0.4, 0.9))
    loss = report._curve(comparison, "baseline", lambda epoch: epoch.train_loss)
    assert loss is not None
    assert loss.mean == (1.0, 0.5)  # of the seed that has one

    axes = report.draw([accuracy], report.method_styles([comparison])).axes[0]
    line, phase = axes.lines
    assert list(line.get_ydata()) == pytest.approx([0.3, 0.7])
    assert list(phase.get_xdata()) == [1.5, 1.5]


def test_the_last_half_is_shown_apart_when_there_are_epochs_enough():
    curve = report.Curve("wau", (1, 2, 3, 4), (0.1, 0.2, 0.3, 0.4), (0.1,) * 4, (0.5,) * 4, (1, 3), ((1, 2), (2, 4)))
    axes = report.draw([curve], {"wau": report.Style("#000000", "solid")}, first=3).axes[0]
    line, *phases = axes.lines
    assert list(line.get_xdata()) == [3, 4]
    *phases, restored = phases
    assert [list(phase.get_xdata()) for phase in phases] == [[3.5, 3.5]]  # the phase before the part is left out
    assert (list(restored.get_xdata()), list(restored.get_ydata())) == ([4], [0.4])
    assert [(shade.get_x(), shade.get_x() + shade.get_width()) for shade in axes.patches] == [(3, 4.5)]
    long = compared([run("baseline", 0, [0.1] * 8)])
    assert "last half" in report.render([long])


def test_many_methods_stay_distinguishable_over_all_sections():
    names = [f"wau(rate=0.{i})" for i in range(1, 20)]
    first = by_method({"baseline": [0.5], **{name: [0.5] for name in names}})
    second = by_method({name: [0.5] for name in reversed(names)})
    styles = report.method_styles([first, second])
    assert len({(style.colour, style.dash) for style in styles.values()}) == 20
    page = Page(report.render([first, second]))
    assert {"#comparison-1", "#comparison-2"} <= set(page.addresses)


def test_a_comparison_without_a_finished_run_still_has_a_report():
    failed = run("baseline", 0, [0.1], status="failed", error="out of memory")
    text = Page(report.render([compared([failed])])).text
    assert "No run finished" in text
    assert "out of memory" in text


def test_write_report_makes_the_folder_and_never_leaves_half_a_page(tmp_path, monkeypatch):
    comparison = by_method({"baseline": [0.5]})
    file = report.write_report([comparison], tmp_path / "new" / "report.html")
    assert file.read_text(encoding="utf-8") == report.render([comparison])
    monkeypatch.setattr(results.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        report.write_report([everything()], file)
    assert [each.name for each in file.parent.iterdir()] == ["report.html"]
    assert "wau" not in file.read_text(encoding="utf-8")


def test_what_is_missing_is_named(monkeypatch):
    with pytest.raises(ValueError, match="at least one comparison"):
        report.render([])
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ValueError, match=r'matplotlib.*pip install "filtersmith\[report\]"'):
        report.render([everything()])
