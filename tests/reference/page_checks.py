"""What every page promises, checked in a browser: each check takes the file of a page."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from reference.browser import Browser, Page

PHONE, DESK = 390, 1440

OPEN_DETAILS = "document.querySelectorAll('details').forEach((one) => { one.open = true; })"
# Elements that stick out of the page; what lies in a box that scrolls may.
STICKING_OUT = """[...document.body.querySelectorAll('*')].filter((it) => {
  const box = it.getBoundingClientRect();
  return (box.right > innerWidth + 0.5 || box.left < -0.5) && box.width && !it.parentElement.closest('.scroll, pre');
}).map((it) => `${it.tagName} ${it.getAttribute('class')} ${it.textContent.trim().slice(0, 40)}`)"""
# Every piece of text that is seen, with its contrast to the ground behind it (WCAG 2), and what it needs.
CONTRASTS = """(() => {
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
  const found = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const it = texts.currentNode.parentElement, text = texts.currentNode.data.trim();
    const drawn = it.checkVisibility({ opacityProperty: true, visibilityProperty: true });
    if (!text || !drawn || it.closest('script, style, .unseen')) continue;
    const style = getComputedStyle(it), below = ground(it);
    const ink = rgba(it.closest('svg') ? style.fill : style.color);
    for (let up = it; up; up = up.parentElement) ink[3] *= Number(getComputedStyle(up).opacity);
    const [a, b] = [light(over(ink, below)), light(below)];
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    found.push([text.slice(0, 40), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), large ? 3 : 4.5]);
  }
  return found;
})()"""
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
