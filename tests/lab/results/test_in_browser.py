"""The pages in a real browser: what they load, how they sort, whether they fit and can be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab.reproduce.entries import entry, every_verdict
from lab.results.test_filters import comparison as with_filters
from reference import audits
from reference import browser as browsers
from reference.browser import Browser
from reference.example_results import everything, sized

from filtersmith.lab.audit import page as audit_page
from filtersmith.lab.papers.published import table
from filtersmith.lab.reproduce import page as reproduce_page
from filtersmith.lab.reproduce.arms import arm_of
from filtersmith.lab.reproduce.measured import measure, settings
from filtersmith.lab.results import page, report

pytest.register_assert_rewrite("reference.page_checks")  # what it finds is said in full
pytest.importorskip("jinja2", reason="the report needs the extra filtersmith[report]")
pytest.importorskip("matplotlib", reason="the report needs the extra filtersmith[report]")

from reference import page_checks  # noqa: E402

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(browsers.program() is None, reason="there is no Chromium to look with"),
    pytest.mark.xdist_group("browser"),  # one for all
]

TABLE = """{% extends "base.html.j2" %}{% import "macros.html.j2" as parts %}
{% block title %}Sorting{% endblock %}{% block heading %}Sorting{% endblock %}
{% block content %}{{ parts.table("Numbers", ["name", "value"], rows) }}{% endblock %}"""


def comparisons() -> str:
    """Everything that can happen to a run, with times; and sizes that differ."""
    timed = everything().model_copy(update={"times_measured_alone": True})
    of_sizes = sized({"baseline": (1_500_000, [0.8, 0.9, 0.8]), "dacnn": (150_000, [0.6, 0.7, 0.6])})
    return report.render([timed, of_sizes, with_filters()])


def reproduction() -> str:
    """A table in three settings, with every verdict."""
    of, entries = table("repr/table1"), every_verdict()
    return reproduce_page.render(of, {one: measure(of, entries, one) for one in settings(of, entries)})


def over_the_epochs() -> str:
    """Rows of several networks, each with a figure of its own."""
    of = table("wau/table1")
    rows = [row for row in of.trained() if row.data == "cifar10"][:9]
    entries = [entry(arm_of(row, of), seed, (0.4, 0.5, 0.6)) for row in rows for seed in range(2)]
    (setting,) = settings(of, entries)
    page = reproduce_page.render(of, {setting: measure(of, entries, setting)})
    assert page.count("<figcaption>Test accuracy") > 2
    return page


PAGES: dict[str, Callable[[], str]] = {
    "comparisons": comparisons,
    "audit": lambda: audit_page.render(audits.whole()),
    "audit of weights": lambda: audit_page.render(audits.weights_alone()),
    "reproduction": reproduction,
    "reproduction over the epochs": over_the_epochs,
}
"""Name -> the page as text. Every page of the laboratory stands here."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsers.started(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="module", params=PAGES)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("pages") / f"{request.param}.html"
    file.write_text(PAGES[request.param](), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    "check",
    [
        page_checks.check_loads,
        page_checks.check_fits,
        page_checks.check_hints,
        page_checks.check_contrast,
        page_checks.check_focus,
        page_checks.check_reach,
        page_checks.check_names,
        page_checks.check_pictures,
        page_checks.check_sorts,
        page_checks.check_without_scripts,
    ],
)
def test_every_page(check: Callable[[Browser, Path], None], browser: Browser, path: Path) -> None:
    check(browser, path)


def test_a_wide_table_goes_on_into_the_margin_and_a_narrow_one_does_not(browser: Browser, tmp_path: Path) -> None:
    template = page.environment().from_string(TABLE)
    edges = "(({left, right}) => [left, right])(document.querySelector('.scroll').getBoundingClientRect())"
    for words, right in (("short", 1332), ("long " * 300, 1412)):
        (tmp_path / "page.html").write_text(page.render_page(template, rows=[["a", words]]), encoding="utf-8")
        with browser.open(tmp_path / "page.html") as opened:
            assert opened.evaluate(edges) == [108, right]


@pytest.mark.parametrize(
    ("values", "up"),
    [
        (["+0.10", "−3.2 [−5.0, −1.0]", "—", "-1", "0.00"], ["−3.2 [−5.0, −1.0]", "-1", "0.00", "+0.10", "—"]),
        (["1,200", "999", "19.6k", "11.2M / 9M", "failed"], ["999", "1,200", "19.6k", "11.2M / 9M", "failed"]),
        (["79.3 ± 0.2", "9%", "1.05×", "<0.001 (0.002)"], ["<0.001 (0.002)", "1.05×", "9%", "79.3 ± 0.2"]),
        (["1.4 MB", "70 kB", "512", "3 min", ""], ["3 min", "512", "70 kB", "1.4 MB", ""]),
        (
            ["Wau", "asa", "kflo(width=10)", "—", "kflo(width=4)"],
            ["asa", "kflo(width=4)", "kflo(width=10)", "Wau", "—"],
        ),
        (["2", "1 b", "10", "1 a", "2"], ["1 b", "1 a", "2", "2", "10"]),
    ],
)
def test_how_columns_are_sorted(values: list[str], up: list[str], browser: Browser, tmp_path: Path) -> None:
    template = page.environment().from_string(TABLE)
    rows = [[f"row {number}", value] for number, value in enumerate(values)]
    (tmp_path / "page.html").write_text(page.render_page(template, rows=rows), encoding="utf-8")
    with browser.open(tmp_path / "page.html") as opened:
        opened.click("document.querySelectorAll('thead button')[1]")
        assert [row[1] for row in opened.evaluate(page_checks.TABLES)[0]["rows"]] == up
        assert opened.errors == []


def test_the_checks_can_fail(browser: Browser, tmp_path: Path) -> None:
    wrong = (
        "{% block content %}<p style='width: 2000px; color: #999'>pale</p><script>late = 1</script>"
        "<img src='https://example.org/a.png'><figure><figcaption>No data</figcaption></figure>"
        "<a href='#' style='outline-color: #ccc'>hardly seen</a><pre>out of reach</pre>"
        "<div role='region' aria-label='Numbers'></div>"
        "<div class='scroll' style='background: none' tabindex='0' role='region' aria-label='no hint'>"
        "<div style='width: 900px'>wide</div></div>"
    )
    bad = page.environment().from_string(TABLE.replace("{% block content %}", wrong))
    file = tmp_path / "bad.html"
    file.write_text(page.render_page(bad, rows=[["a", 1]] * 20), encoding="utf-8")
    for check, said in (
        (page_checks.check_loads, "Content Security Policy"),
        (page_checks.check_hints, "no hint"),
        (page_checks.check_fits, r"assert 20\d\d <= 390"),
        (page_checks.check_contrast, "pale"),
        (page_checks.check_focus, "hardly seen"),
        (page_checks.check_reach, "out of reach"),
        (page_checks.check_names, "Numbers"),
        (page_checks.check_pictures, "img src"),
    ):
        with pytest.raises(AssertionError, match=said):
            check(browser, file)
    with pytest.raises(AssertionError):
        page_checks.check_order(["1", "2"], ["2", "1"], ["2", "1"])
