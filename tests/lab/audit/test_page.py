"""The page has everything that the table and the verdict say."""

from __future__ import annotations

import html

import pytest
from reference import audits

from filtersmith.lab.audit.page import render
from filtersmith.lab.audit.table import build
from filtersmith.lab.audit.verdict import verdict

pytest.importorskip("jinja2", reason="pages need the extra filtersmith[report]")
pytest.importorskip("matplotlib", reason="pages need the extra filtersmith[report]")


def test_the_verdict_leads_and_every_cell_and_picture_is_there() -> None:
    found = audits.whole()
    page, said = render(found), verdict(found)
    assert page.index(html.escape(said.headline)) < page.index("Layer by layer") < page.index("By the weights")
    for words in (*said.grounds, *said.limits, *(cell for row in build(found).rows for cell in row)):
        assert html.escape(words) in page or words in html.unescape(page)
    assert page.count("Data as CSV") == page.count("<figure") == 4 + (1 + 2 * 4 + 1) + 5 + 1
    assert "Do the weights tell what the Oracle does?" in page


def test_weights_alone_have_no_empty_parts() -> None:
    page = render(audits.weights_alone())
    assert "On images" not in page
    assert "Oracle does?" not in page
    assert render(audits.broken()).count("<figure") == 3
