from __future__ import annotations

import base64
import html
import re
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference.example_results import by_method, compared, everything, run, sized
from reference.project_scripts import script_of

from filtersmith.lab.results import document as results
from filtersmith.lab.results import figures, report, tables
from filtersmith.lab.results.numbers import exact

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
    allowed = ("data:image/svg+xml;base64,", "data:text/csv;charset=utf-8,", "#")
    assert all(address.startswith(allowed) for address in parsed.addresses)
    assert "url(" not in page
    assert "@import" not in page
    assert not {"link", "iframe", "b", "i"} & set(parsed.tags)
    assert parsed.tags.count("script") == 1, "the page's own, which sorts tables"
    for hostile in ("<script>alert(1)</script>", "<b>lower</b>", "<i>odd</i>|name"):
        assert html.escape(hostile) in page
        assert hostile in parsed.text


def test_the_page_holds_the_table_the_seeds_and_the_recipe(page):
    text = Page(page).text
    table = tables.build_table(everything())
    for row in table.rows:
        assert all(cell in text for cell in (row.method, row.note, *row.figures) if cell != row.words)
        assert row.line.partition(" (")[0] in text
    assert all(note in text for note in (*table.remarks, *table.legend))
    assert "90.00 91.00" in text  # the seed's last epoch, and below it its best one
    assert "train:\n  lr: 0.1\n" in text
    assert "2.15.0" in text
    assert "Dotted vertical lines" in text


def test_the_page_leads_with_the_differences_in_words_and_for_who_cannot_see_them(page):
    order = ["Difference to the baseline", "What can be concluded", "What cannot be", "Table", "Curves", "Every seed"]
    order = [f"<h3>{words}" for words in [*order, "How it was measured"]]
    places = [page.index(words) for words in order]
    assert places == sorted(places)
    text = Page(page).text
    assert text.index("baseline 91.00%") < text.index("better by 1.52 to 6.48 points") < text.index("Table")
    described = "kflo(depth=2,width=4): mean +4.00 points; 95% interval +1.52 to +6.48; seeds +5.00, +4.00, +3.00"
    assert f'role="img" aria-label="{described}"' in page
    assert "it may be chance (Holm's p 0.50)" in text
    assert text.count("better by 1.52 to 6.48 points") == 1, "in the figure, not in the table again"
    assert page.count('<circle class="seed"') == 1 + 3 + 2, "the key, a method and half of one; one lies far off"
    assert page.count('<rect class="interval"') == 1 + 1
    # What was averaged is said of the curves, too.
    assert 'alt="Test accuracy, %, by epoch; mean after the last epoch: baseline 91.00, wau(' in page


def test_without_a_pair_there_is_no_figure_of_differences():
    page = report.render([by_method({"wau": [0.5]})])
    assert "Difference to the baseline" not in page
    assert "no method named baseline" in page


def test_figures_are_whole_svg_and_the_page_is_the_same_each_time(page):
    sources = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)
    assert len(sources) == 3  # three epochs: no second accuracy figure of the last half
    for source in sources:
        assert ET.fromstring(base64.b64decode(source)).tag.endswith("svg")
    assert report.render([everything()]) == page


def test_accuracy_against_size_stands_in_the_page_where_sizes_differ():
    comparison = sized(
        {"baseline": (1_500_000, [0.8, 0.9]), "wau": (1_500_000, [0.7, 0.9]), "dacnn": (150_000, [0.6])}
    )
    caption = "Test accuracy, %, by deployed parameters"
    page = report.render([comparison])
    assert f"<figcaption>{caption}</figcaption>" in page
    assert f'alt="{caption}: baseline 1.50M 85.00%, wau 1.50M 80.00%, dacnn 150k 60.00%"' in page
    assert page.count('<path d="M') == 3, "a mark for each in the legend"
    equal = report.render([sized({"baseline": (1000, [0.8]), "wau": (1000, [0.9])})])
    assert caption not in equal
    assert '<path d="M' not in equal
    assert "Against cost" not in equal


def test_accuracy_against_training_time_stands_in_the_page_or_the_reason_why_not(page):
    caption = "<figcaption>Test accuracy, %, by training time"
    assert "the runs are not known to have had the machine to themselves" in page
    assert caption not in page
    timed = report.render([everything().model_copy(update={"times_measured_alone": True})])
    assert "is left out" not in timed
    assert caption in timed
    assert "measured alone on the machine" in timed
    one = by_method({"baseline": [0.5]}).model_copy(update={"times_measured_alone": True})
    assert "fewer than two methods have finished" in report.render([one])


def test_the_picture_in_the_repository_is_drawn_from_its_results(tmp_path, capsys):
    results.save(sized({"baseline": (2_000, [0.8]), "dacnn": (1_000, [0.6])}), tmp_path / "results" / "two.json")
    results.save(sized({"baseline": (2_000, [0.8]), "wau": (2_000, [0.6])}), tmp_path / "results" / "one.json")
    drawn = []
    for _ in range(2):
        assert script_of("draw_sizes").main(["--root", str(tmp_path)]) == 0
        assert capsys.readouterr().out.splitlines() == [str(tmp_path / "results" / "pictures" / "two.svg")]
        drawn.append((tmp_path / "results" / "pictures" / "two.svg").read_bytes())
    assert drawn[0] == drawn[1]
    assert len(list((tmp_path / "results" / "pictures").iterdir())) == 1
    assert ET.fromstring(drawn[0]).tag.endswith("svg")


@given(st.integers(100, 10**9), st.floats(1.001, 10**6))
def test_sizes_have_three_to_six_readable_ticks(low: int, ratio: float):
    high = low * ratio
    ticks = figures.size_ticks(low, high)
    assert ticks == sorted(set(ticks))
    assert all(low <= tick <= high for tick in ticks)
    assert len(ticks) <= 6
    if high - low >= 20:
        assert len(ticks) >= 2
    labels = [exact(tick) for tick in ticks]
    assert len(set(labels)) == len(labels)
    assert max(map(len, labels), default=0) <= 8


def test_many_methods_stay_distinguishable_over_all_sections():
    names = [f"wau(rate=0.{i})" for i in range(1, 20)]
    first = by_method({"baseline": [0.5], **{name: [0.5] for name in names}})
    second = by_method({name: [0.5] for name in reversed(names)})
    styles = figures.method_styles([first, second])
    assert len({(style.colour, style.dash) for style in styles.values()}) == 20
    page = Page(report.render([first, second]))
    assert {"#comparison-1", "#comparison-2", "#legend"} <= set(page.addresses)
    assert page.text.count("Last epoch: test accuracy") == 1, "one legend for all tables"


def test_comparisons_of_one_title_are_numbered_and_others_are_not():
    same, other = by_method({"baseline": [0.5]}), by_method({"baseline": [0.5]}).model_copy(update={"title": "other"})
    page = report.render([same, other, same])
    for title in (f"{same.title} (1)", "other", f"{same.title} (2)"):
        assert page.count(f"<h2>{title}</h2>") == page.count(f'aria-label="Every seed: {title}"') == 1
    assert f"<h2>{same.title}</h2>" in report.render([same])


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
