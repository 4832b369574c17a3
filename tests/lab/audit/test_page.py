"""The page has everything that the table and the verdict say."""

from __future__ import annotations

import html
from dataclasses import replace
from importlib import metadata

import pytest
from reference import audits

from filtersmith.lab.audit.audit import NULL_SEED
from filtersmith.lab.audit.oracle import CRITERIA as CRITERIA_OF_ORACLE
from filtersmith.lab.audit.page import CRITERIA, render
from filtersmith.lab.audit.table import build
from filtersmith.lab.audit.verdict import verdict
from filtersmith.lab.training.environment import environment

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
    assert found.against is not None
    assert found.against.of is not None
    other = page[page.index("Beside it: resnet8") : page.index("By the weights")]
    assert html.escape(verdict(found.against.of).headline) in other
    assert all(
        html.escape(cell) in other.replace("<wbr>", "") for row in build(found.against.of).rows for cell in row
    )


def test_it_says_how_criteria_are_read_why_these_layers_and_what_it_was_measured_with() -> None:
    text, worth = html.unescape(render(audits.whole())), audits.whole().worth
    assert worth is not None
    assert set(CRITERIA_OF_ORACLE) == set(CRITERIA)
    assert all(f"<li>{name}: {CRITERIA[name]}</li>" in text for name in worth.agreement)
    filters = sum(map(len, worth.drops.values()))
    assert f"Over {filters} filters of 7 layers together: up to about ±{2 / filters**0.5:.2f}" in text
    assert "What excites filters is shown of 3 layers at most, spread evenly from the first to the last" in text
    measured = text.partition("How it was measured")[2]
    for name, value in (
        ("target", "planted"),
        ("weights", "of a test"),
        ("random network", f"seed {NULL_SEED}"),
        ("images", "60 test images of digits"),
        ("Oracle", "20 images"),
        ("torch", metadata.version("torch")),
        ("cpu", environment()["cpu"]),
    ):
        assert f"<dt>{name}</dt><dd>{value}</dd>" in measured
    assert "batch norm" not in text.partition("<h2>On images")[2]


def test_layers_of_one_kernel_are_shown_for_what_they_share() -> None:
    found, target = audits.whole(), audits.planted()
    first, second = (target.network.get_submodule(f"layer1.0.conv{k}") for k in (1, 2))
    second.weight = first.weight
    exciting = tuple(replace(found.exciting[0], layer=f"layer1.0.conv{k}") for k in (1, 2))
    page = render(replace(found, target=target, exciting=exciting))
    assert "shown of layers of the kernel that most layers share (8 at most)" in page


def test_weights_alone_have_no_empty_parts() -> None:
    page = render(audits.weights_alone())
    assert "<dt>images</dt><dd>none</dd><dt>Oracle</dt><dd>not measured</dd>" in page
    assert "On images" not in page
    assert "Oracle does?" not in page
    assert render(audits.broken()).count("<figure") == 3
