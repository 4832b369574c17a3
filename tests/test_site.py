"""The documentation as a site: it builds without a warning, works without a network, and its scripts run."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
import torch
from reference import browser as browsers
from reference.browser import Browser

import filtersmith as fs
from filtersmith import METHODS

for library in ("sphinx", "furo", "myst_parser"):
    pytest.importorskip(library, reason="the documentation needs the extra filtersmith[docs]")

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
sys.path.append(str(DOCS / "_ext"))

from filtersmith_site import api, cards, commands, methods, notebooks, repository, returned  # noqa: E402

alone = pytest.mark.xdist_group("site")  # what is generated lies among the sources: one process builds at a time
in_chromium = pytest.mark.skipif(browsers.program() is None, reason="there is no Chromium to look with")


# --- what is generated -----------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("name", METHODS)
def test_the_script_of_a_method_runs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As its page shows it, with nothing at hand that it does not import."""
    page = methods.method_page(METHODS[name])
    (shown,) = re.findall(r"\n\.\. code-block:: python\n\n(   import torch\n.*?)\n\n(?=\S)", page, re.S)
    script = re.sub(r"^   ", "", shown, flags=re.M) + "\n"
    assert script == methods.script(METHODS[name])
    assert f'fs.compose("{name}' in script
    assert max(map(len, script.splitlines())) <= 88
    with torch.random.fork_rng():
        exec(compile(script, f"{name}.py", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.endswith(" parameters to deploy\n")


@pytest.mark.parametrize("name", METHODS)
def test_a_page_has_the_whole_card(name: str) -> None:
    """Every word of it, in order, however it is marked up."""
    card, page = METHODS[name].card, methods.method_page(METHODS[name])
    assert _words(cards.body(card)) == _words(card.partition("\n")[2])
    assert cards.body(card) in page
    headings = re.findall(r"^\*\*(.+?)\.\*\*", card, re.M)
    assert len(headings) >= 7
    assert [line for line, mark in re.findall(r"^(.+)\n(-{4,})$", cards.body(card), re.M)] == headings


def _words(text: str) -> list[str]:
    """Without what is marked up differently: headings, blocks of code, links to pages."""
    text = re.sub(r"^\.\. code-block:: \w+$|^-{4,}$", "", text, flags=re.M)
    text = re.sub(r":doc:`[^`]+`|``(docs|results|benchmarks)/[\w./-]+\.md``", "PAGE", text)
    return re.findall(r"\w+|[^\w\s*:.]", text)


def test_every_public_name_has_its_place() -> None:
    pages = "\n".join([*api.pages().values(), *methods.pages().values()])
    names = [f"filtersmith.{name}" for name in set(fs.__all__) - {"measure", "__version__", "METHODS"}]
    names += [f"filtersmith.measure.{name}" for name in fs.measure.__all__]
    names += [
        "filtersmith.zoo.build",
        "filtersmith.lab.exported.load",
        "filtersmith.integrations.lightning.FilterMethods",
    ]
    for name in names:
        assert len(re.findall(rf"^\.\. auto\w+:: {re.escape(name)}$", pages, re.M)) == 1, name


def test_classes_without_a_public_name_are_found_where_they_are_returned() -> None:
    found = [cls.__name__ for cls in returned.classes_met([fs.share_kernels, fs.measure.near_duplicates])]
    assert found == ["Duplicate", "SharingReport"]


def test_the_page_of_commands_has_each_with_its_examples_and_the_exit_codes() -> None:
    pytest.importorskip("typer")
    (page,) = commands.pages().values()
    assert ["list", "methods"] in commands.commands()
    for words in commands.commands():
        assert f"\n{' '.join(['filtersmith', *words])}\n" in page
    assert "Exit codes: 0 done" in page
    assert page.count("   Example") >= 6
    assert "\x1b" not in page
    assert max(len(line) for line in page.splitlines() if line.startswith("   ")) <= 3 + commands.COLUMNS


@pytest.mark.parametrize(
    ("page", "link", "led"),
    [
        ("docs/tasks.md", "[a](imagenet.md)", "[a](imagenet.md)"),
        ("docs/tasks.md", "[a](../results/README.md#digits)", "[a](generated/repository/results/README.myst#digits)"),
        ("docs/tasks.md", "[a](../src/filtersmith/methods/flow.py)", "[a](generated/methods/asa.rst)"),
        ("docs/tasks.md", "[a](../results)", "[a](generated/repository/results/README.myst)"),
        ("docs/tasks.md", "[a](https://example.org/a.md) [b](#c)", "[a](https://example.org/a.md) [b](#c)"),
        ("docs/tasks.md", "```md\n[a](../CHANGELOG.md)\n```\n", "```md\n[a](../CHANGELOG.md)\n```\n"),
        (
            "docs/generated/repository/results/audit/README.myst",
            "![p](pictures/oracle.svg) [a](../../docs/figures.md)",
            "![p](../../../../../results/audit/pictures/oracle.svg) [a](../../../../figures.md)",
        ),
    ],
)
def test_links_of_the_repository_lead_to_pages(page: str, link: str, led: str) -> None:
    assert repository.lead_links(link, ROOT / page, ROOT) == led


def test_a_notebook_is_shown_with_what_it_printed(tmp_path: Path) -> None:
    file = tmp_path / "one.ipynb"
    file.write_text(
        '{"cells": [{"cell_type": "markdown", "source": ["# One\\n", "text"]},'
        ' {"cell_type": "code", "source": "print(1)", "outputs": [{"output_type": "stream", "text": ["1\\n"]},'
        ' {"data": {"image/png": "iVBO", "text/plain": "<F>"}},'
        ' {"data": {"application/json": {}}}]}]}'
    )
    assert notebooks.notebook(file).split("\n\n") == [
        "# One\ntext",
        "````python\nprint(1)\n````",
        "````text\n1\n````",
        '<img alt="F" src="data:image/png;base64,iVBO">',
        "[The notebook as a file](path:../../notebooks/one.ipynb)\n",
    ]


# --- the site --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make docs` does, elsewhere."""
    for trainer in ("lightning", "transformers"):
        pytest.importorskip(trainer)
    built = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "--quiet", "-W", "--keep-going", "--nitpicky"]
    made = subprocess.run([*command, DOCS, built], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr[-4000:]
    assert made.stderr == ""
    return built


class Found(HTMLParser):
    """What a page loads, and where its links lead."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "a":
            self.links += [given["href"]] if "href" in given else []
        elif tag != "link" or "stylesheet" in given.get("rel", "") or "icon" in given.get("rel", ""):
            self.loaded += [given[name] for name in ("src", "href", "srcset", "poster", "data") if given.get(name)]


def pages_of(site: Path) -> list[Path]:
    return sorted(site.rglob("*.html"))


@alone
@pytest.mark.long
def test_no_page_loads_anything_from_outside(site: Path) -> None:
    for page in pages_of(site):
        loaded = [urldefrag(one).url for one in Found(page).loaded if not one.startswith(("data:", "#"))]
        assert loaded, page
        missing = [one for one in loaded if not (page.parent / unquote(one.partition("?")[0])).is_file()]
        assert not missing, (page, missing)  # an address of another machine is no file either
    for style in site.rglob("*.css"):
        assert not re.findall(
            r"(?:url\(|@import)\s*[\"']?(?:https?:)?//[^)\s]*", style.read_text(encoding="utf-8")
        ), style


@alone
@pytest.mark.long
def test_every_page_is_reached_from_the_front_page_and_every_link_leads_to_a_file(site: Path) -> None:
    reached: set[Path] = set()
    ahead = {site / "index.html"}
    while ahead:
        page = ahead.pop()
        reached.add(page)
        local = [urldefrag(link) for link in Found(page).links if not re.match(r"[a-z]+:", link)]
        targets = {
            (page.parent / unquote(link.url.partition("?")[0])).resolve() if link.url else page for link in local
        }
        assert not [target for target in targets if not target.is_file()], page
        ahead |= {target for target in targets if target.suffix == ".html"} - reached
    asked = {site / "search.html", site / "_modules" / "index.html"}  # by a form, and by nobody
    assert set(pages_of(site)) - reached <= asked


@alone
@pytest.mark.long
def test_tables_and_comments_of_results_are_in_the_pages(site: Path) -> None:
    measured = (site / "generated" / "repository" / "results" / "README.html").read_text(encoding="utf-8")
    source = (ROOT / "results" / "README.md").read_text(encoding="utf-8")
    tables = re.findall(r"^\|[-:| ]+\|$", source, re.M)
    assert len(tables) > 10
    assert measured.count("<table") == len(tables)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsers.started(tmp_path_factory.mktemp("profile")) as started:
        yield started


WIDER = """[...document.querySelectorAll('article *')].filter(one =>
    one.getBoundingClientRect().right > innerWidth + 1 &&
    !one.closest('.table-wrapper, .indextable, pre, svg')).map(one => one.outerHTML.slice(0, 200))"""
"""What sticks out of the window, but for what scrolls in a box of its own."""


@in_chromium
@alone
@pytest.mark.long
@pytest.mark.parametrize("width", [390, 1440])
def test_no_page_is_wider_than_the_window(width: int, site: Path, browser: Browser) -> None:
    for file in pages_of(site):
        with browser.open(file, width=width) as page:
            assert page.evaluate("document.documentElement.scrollWidth") <= width, file
            assert page.evaluate(WIDER) == [], file
            assert page.errors == [], file
            assert all(one.startswith(("file:", "data:")) for one in page.requests), file


SEARCHED = """new Promise(done => {
    const look = () => {
        const said = document.querySelector('.search-summary')?.textContent.match(/found (\\d+) page/);
        const shown = document.querySelectorAll('ul.search li a').length;
        said && shown >= +said[1] ? done(shown) : setTimeout(look, 50);
    };
    look();
})"""
"""How many pages a search has found, once all of them are listed."""


@in_chromium
@alone
@pytest.mark.long
def test_a_search_works_in_a_page_that_was_opened_as_a_file(site: Path, browser: Browser) -> None:
    with browser.open(site / "index.html") as page:
        page.evaluate(f"location.href = {(site / 'search.html').as_uri() + '?q=orthogonal'!r}")
        assert page.evaluate(SEARCHED) > 1
        found = page.evaluate("[...document.querySelectorAll('ul.search li a')].map(one => one.href)")
        assert any("/generated/methods/repr.html" in link for link in found)
        assert page.errors == []
        assert all(one.startswith(("file:", "data:")) for one in page.requests)
