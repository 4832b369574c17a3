"""What every page promises, checked in a browser: each check takes the file of a page."""

from __future__ import annotations

import csv
import io
import re
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from reference.browser import Browser, Page

PHONE, DESK = 390, 1440

OPEN_DETAILS = "document.querySelectorAll('details').forEach((one) => { one.open = true; })"
# Elements that stick out of the page; what lies in a box that scrolls may.
STICKING_OUT = """[...document.body.querySelectorAll('*')].filter((it) => {
  const box = it.getBoundingClientRect();
  return (box.right > innerWidth + 0.5 || box.left < -0.5) && box.width && !it.parentElement.closest('.scroll, pre');
}).map((it) => `${it.tagName} ${it.getAttribute('class')} ${it.textContent.trim().slice(0, 40)}`)"""
# Cards that are much wider than the picture in them.
WIDE_CARDS = """[...document.querySelectorAll('figure > img')].filter(
  (it) => it.parentElement.offsetWidth - it.offsetWidth > 60).map((it) => it.alt.slice(0, 40))"""
# What lies in a box that scrolls can be reached without a mouse, and the box has a name.
OUT_OF_REACH = """[...document.body.querySelectorAll('*')].filter((it) => {
  const scrolls = ['auto', 'scroll'].includes(getComputedStyle(it).overflowX);
  return scrolls && (it.tabIndex < 0 || !it.getAttribute('role') || !it.getAttribute('aria-label'));
}).map((it) => it.outerHTML.slice(0, 80))"""
# Boxes that scroll, at their beginning or their end: name, right edge, top, bottom, the colour behind them.
SCROLLED = """[...document.querySelectorAll('.scroll')].filter(
  (it) => it.scrollWidth > it.clientWidth + 4).map((it) => {
  it.scrollLeft = %s ? it.scrollWidth : 0;
  const box = it.getBoundingClientRect(), down = document.scrollingElement.scrollTop;
  const ground = getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number);
  const places = [box.right, box.top + down, box.bottom + down].map(Math.floor);
  return [it.getAttribute('aria-label'), ...places, ground];
})"""
# Colours as WCAG 2 compares them.
COLOURS = """
  const rgba = (text) => {
    const parts = text.match(/^rgba?\\(([^)]+)\\)$/);
    if (!parts) throw new Error(`what colour is ${text}?`);
    const [red, green, blue, alpha = 1] = parts[1].split(/[,/\\s]+/).map(Number);
    return [red, green, blue, alpha];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[3] * top[i] + (1 - top[3]) * below[i]);
  const light = (colour) => {
    const [red, green, blue] = colour.map((c) => c / 255).map(
      (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const ground = (it) => {
    if (!it) return [255, 255, 255];
    const own = rgba(getComputedStyle(it).backgroundColor);
    return own[3] === 1 ? own.slice(0, 3) : over(own, ground(it.parentElement));
  };
  const contrast = (ink, below) => {
    const [a, b] = [light(over(ink, below)), light(below)];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  };
"""
# Every piece of text that is seen, with its contrast to the ground behind it, and what it needs.
CONTRASTS = (
    f"""(() => {{ {COLOURS}"""
    + """
  const found = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const it = texts.currentNode.parentElement, text = texts.currentNode.data.trim();
    const drawn = it.checkVisibility({ opacityProperty: true, visibilityProperty: true });
    if (!text || !drawn || it.closest('script, style, .unseen')) continue;
    const style = getComputedStyle(it), below = ground(it);
    const ink = rgba(it.closest('svg') ? style.fill : style.color);
    for (let up = it; up; up = up.parentElement) ink[3] *= Number(getComputedStyle(up).opacity);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    found.push([text.slice(0, 40), contrast(ink, below), large ? 3 : 4.5]);
  }
  return found;
})()"""
)
# Everything that can have the focus, with the contrast of its outline to the ground that it is drawn on; 0: none.
OUTLINES = (
    f"""(() => {{ {COLOURS}"""
    + """
  return [...document.querySelectorAll('a[href], button, summary, [tabindex="0"]')].map((it) => {
    it.focus();
    const style = getComputedStyle(it);
    const wide = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;
    const name = (it.getAttribute('aria-label') ?? it.textContent).trim().slice(0, 40);
    const seen = wide && document.activeElement === it;
    return [name, seen ? contrast(rgba(style.outlineColor), ground(it.parentElement)) : 0];
  });
})()"""
)
FIGURES = """[...document.querySelectorAll('figure')].map((it) => ({
  caption: it.querySelector('figcaption')?.textContent.trim(),
  links: [...it.querySelectorAll('a[download]')].map((link) => [link.getAttribute('download'), link.href]),
}))"""
# Each picture with its alternative text; drawings inside of figures have it on themselves or on what groups them.
UNSAID = """[...document.querySelectorAll('img, figure svg')].filter((it) => it.tagName === 'IMG'
  ? !it.alt.trim() || !it.complete || !it.naturalWidth
  : !it.closest('[aria-hidden=true], [aria-label], [role=img]')).map((it) => it.outerHTML.slice(0, 200))"""
TABLES = """[...document.querySelectorAll('table.sortable')].map((table) => ({
  heads: [...table.tHead.rows[0].cells].map((head) => head.textContent.trim()),
  sorts: [...table.tHead.rows[0].cells].map((head) => head.getAttribute('aria-sort')),
  rows: [...table.tBodies[0].rows].map((row) => [...row.cells].map((cell) => cell.textContent.trim())),
  buttons: table.querySelectorAll('thead th > button[type=button]').length,
}))"""


def check_loads(browser: Browser, path: Path) -> None:
    """Without a complaint, and without asking for anything but itself; its own script runs, another one does not."""
    with browser.open(path) as page:
        assert page.errors == []
        assert [url for url in page.requests if not url.startswith("data:")] == [path.resolve().as_uri()]
        page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'hurt = 1'}))")
        assert page.evaluate("typeof hurt") == "undefined", "a script that is not the page's own"


def check_fits(browser: Browser, path: Path) -> None:
    """Nothing is wider than a phone or a desk's screen."""
    with browser.open(path) as page:
        page.evaluate(OPEN_DETAILS)
        for width in (PHONE, DESK):
            page.show(width, dark=False)
            assert page.evaluate("innerWidth") == width
            assert page.evaluate("document.scrollingElement.scrollWidth") <= width
            assert page.evaluate(STICKING_OUT) == []
            assert page.evaluate(WIDE_CARDS) == []


def check_hints(browser: Browser, path: Path) -> None:
    """A table that goes on beyond an edge has a shade there, in light and in dark; where it ends there is none."""
    image = pytest.importorskip("matplotlib.image")
    with browser.open(path, width=PHONE) as page, tempfile.TemporaryDirectory() as folder:
        for dark in (False, True):
            page.show(PHONE, dark)
            for end in (False, True):
                boxes = page.evaluate(SCROLLED % str(end).lower())
                page.screenshot(Path(folder) / "page.png")
                seen = image.imread(Path(folder) / "page.png")[..., :3]
                for name, right, top, bottom, ground in boxes:
                    column = seen[top:bottom, right - 1]
                    far = sorted(float(abs(pixel - [part / 255 for part in ground]).max()) for pixel in column)
                    middle = far[len(far) // 2]  # rules and text are few
                    assert middle < 0.02 if end else middle > 0.1, (name, dark, end, middle)


def check_contrast(browser: Browser, path: Path) -> None:
    """Every text can be read, in light and in dark."""
    with browser.open(path) as page:
        page.evaluate(OPEN_DETAILS)
        grounds = set()
        for dark in (False, True):
            page.show(DESK, dark)
            grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            contrasts = page.evaluate(CONTRASTS)
            assert len(contrasts) > 20
            assert [(text, ratio) for text, ratio, needed in contrasts if ratio < needed] == []
        assert len(grounds) == 2, "dark and light have the same ground"


def check_focus(browser: Browser, path: Path) -> None:
    """Whoever uses the keyboard sees where it is, in light and in dark."""
    with browser.open(path) as page:
        page.evaluate(OPEN_DETAILS)
        page.press("Tab")  # from here on the browser shows the focus
        for dark in (False, True):
            page.show(DESK, dark)
            outlines = page.evaluate(OUTLINES)
            assert len(outlines) > 4
            assert [(name, ratio) for name, ratio in outlines if ratio < 3] == []


def check_reach(browser: Browser, path: Path) -> None:
    """Everything that scrolls does so without a mouse."""
    with browser.open(path) as page:
        page.evaluate(OPEN_DETAILS)
        assert page.evaluate(OUT_OF_REACH) == []


def check_names(browser: Browser, path: Path) -> None:
    """Parts and columns can be told apart by their names alone, as a screen reader says them."""
    with browser.open(path) as page:
        page.evaluate(OPEN_DETAILS)
        tables = page.evaluate(TABLES)
        nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    for table in tables:
        assert sorted(set(table["heads"])) == sorted(table["heads"])
    named: dict[str, list[str]] = {}
    for node in nodes:
        if not node["ignored"]:
            named.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
    for role in ("region", "navigation"):
        assert sorted(set(named.get(role, []))) == sorted(named.get(role, []))
    assert "" not in named["region"]
    heads = [" ".join(head.split()) for table in tables for head in table["heads"]]
    assert named["button"] == heads, "a button is called as its column is, without the arrow"


def check_pictures(browser: Browser, path: Path) -> None:
    """Every picture is said in words and has its data."""
    with browser.open(path) as page:
        assert page.evaluate(UNSAID) == []
        figures = page.evaluate(FIGURES)
    assert figures
    for figure in figures:
        assert figure["caption"]
        ((file, address),) = figure["links"]
        assert re.fullmatch(r"[a-z0-9-]+\.csv", file)
        kind, _, data = address.partition(",")
        assert kind == "data:text/csv;charset=utf-8"
        heads, *rows = csv.reader(io.StringIO(unquote(data)))
        assert rows, figure["caption"]
        assert {len(row) for row in rows} == {len(heads)}


def check_sorts(browser: Browser, path: Path) -> None:
    """By mouse and by keyboard: up, down, as it was; every table and every column."""
    with browser.open(path) as page:
        tables = page.evaluate(TABLES)
        assert tables
        for number, table in enumerate(tables):
            assert table["buttons"] == len(table["heads"])
            for column in range(len(table["heads"])):
                _check_column(page, number, column, table["rows"])


def _check_column(page: Page, number: int, column: int, rows: list[list[str]]) -> None:
    button = f"document.querySelectorAll('table.sortable')[{number}].tHead.rows[0].cells[{column}].firstChild"
    orders = []
    page.evaluate(f"{button}.focus()")
    for key, sort in (("Enter", "ascending"), (" ", "descending"), ("Enter", None)):
        if column % 2:  # the mouse and the keyboard, in turn
            page.click(button)
        else:
            page.press(key)
        table: dict[str, Any] = page.evaluate(TABLES)[number]
        assert table["sorts"] == [sort if other == column else None for other in range(len(table["heads"]))]
        orders.append(table["rows"])
    up, down, again = orders
    assert again == rows
    assert sorted(up) == sorted(down) == sorted(rows), "a row is lost"
    check_order(*([row[column] for row in order] for order in (rows, up, down)))


def check_order(cells: list[str], up: list[str], down: list[str]) -> None:
    """Numbers by size, then texts, then empty cells; equal numbers in their first order."""
    full = [cell for cell in cells if cell not in {"", "—"}]
    numbers = [cell for cell in full if leading_number(cell) is not None]
    assert {*up[len(full) :], *down[len(full) :]} <= {"", "—"}
    if 2 * len(numbers) > len(full):
        assert up[: len(numbers)] == sorted(numbers, key=lambda cell: leading_number(cell) or 0)
        assert down[: len(numbers)] == sorted(numbers, key=lambda cell: -(leading_number(cell) or 0))
    else:
        assert list(dict.fromkeys(up[: len(full)])) == list(dict.fromkeys(reversed(down[: len(full)])))


def leading_number(text: str) -> float | None:
    if not (found := re.match(r"[<±×]?([+−-]?)(\d[\d,]*\.?\d*|\.\d+)([kMG]?)", text)):
        return None
    sign, digits, unit = found.groups()
    size = float(digits.replace(",", "")) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[unit]
    return -size if sign in {"−", "-"} else size


def check_without_scripts(browser: Browser, path: Path) -> None:
    """All is there but the buttons that sort."""
    with browser.open(path) as page:
        with_scripts = page.evaluate("document.querySelector('main').innerText")
    with browser.open(path, scripts=False) as page:
        assert page.evaluate("document.querySelector('main').innerText") == with_scripts
        assert page.evaluate("document.querySelectorAll('button').length") == 0
        assert page.errors == []
