"""The base of all pages: one style, one script that the page allows by its hash, everything else escaped."""

from __future__ import annotations

import base64
import hashlib
import html
import re
import sys

import pytest

pytest.importorskip("jinja2", reason="pages need the extra filtersmith[report]")

from filtersmith.lab.results import page
from filtersmith.lab.results.picture import Picture

TEMPLATE = """{% extends "base.html.j2" %}
{% import "macros.html.j2" as parts %}
{% block title %}{{ name }}{% endblock %}
{% block heading %}Heading{% endblock %}
{% block content %}
{{ parts.figure(picture) }}
{% call parts.figure(picture, "open") %}<svg aria-label="drawn"></svg>{% endcall %}
{{ parts.table("Rows", ["a", "b"], [[name, 1]]) }}
{% call parts.table("More", ["a"], kind="seeds") %}<tr><td>own</td></tr>{% endcall %}
{{ parts.notes([name], "notes") }}
{{ parts.listing("Listing", name) }}
{{ parts.figures([picture, picture]) }}
{{ parts.figure(picture, key="<b>key</b>" | safe) }}
{% call parts.details("Summary", open=true) %}{{ parts.definitions({name: 1}) }}{% endcall %}
{% endblock %}"""


@pytest.fixture(scope="module")
def text() -> str:
    shown = Picture("Caption", "said in words", "a\n1\n", "data:image/png;base64,AAAA")
    template = page.environment().from_string(TEMPLATE)
    return page.render_page(template, name="<script>alert(1)</script>", picture=shown)


def test_the_page_allows_its_own_script_and_no_other(text: str) -> None:
    ((attributes, script),) = re.findall(r"<script([^>]*)>(.*?)</script>", text, flags=re.S)
    assert attributes == ""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = html.unescape(re.findall(r'Content-Security-Policy" content="([^"]*)"', text)[0])
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert (rules["default-src"], rules["img-src"]) == ("'none'", "data:")
    assert "\r" not in script, "a browser hashes it with other newlines"


def test_the_parts_hold_what_they_are_given_as_text(text: str) -> None:
    assert text.startswith("<!doctype html>")
    assert "<title>&lt;script&gt;alert(1)&lt;/script&gt; · filtersmith</title>" in text
    assert '<img alt="said in words" src="data:image/png;base64,AAAA">' in text
    assert text.count('download="caption.csv" href="data:text/csv;charset=utf-8,a%0A1%0A"') == 5
    assert '<figure class="open"><figcaption><h3>Caption</h3></figcaption>\n<svg aria-label="drawn">' in text
    assert '<th scope="row">&lt;script&gt;alert(<wbr>1)&lt;/script&gt;</th><td>1</td>' in text
    assert '<table class="sortable seeds">' in text
    assert '<ul class="notes" id="notes">' in text
    assert "<details open>" in text
    hostile = "&lt;script&gt;alert(1)&lt;/script&gt;"
    assert f'<pre tabindex="0" role="region" aria-label="Listing">{hostile}</pre>' in text
    assert text.count('<div class="figures even">') == 1
    assert '<figcaption>Caption</figcaption>\n<b>key</b><img alt="said in words"' in text


def test_names_break_where_their_parts_meet() -> None:
    assert page.breakable("kflo(a=1,b=<2>)+wau@net") == "kflo(<wbr>a=1,<wbr>b=&lt;2&gt;)+<wbr>wau<wbr>@net"


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    page.need_extra()
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ValueError, match=r'jinja2.*pip install "filtersmith\[report\]"'):
        page.need_extra()
