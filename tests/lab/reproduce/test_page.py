"""The page of a table has everything that is printed of it, and the figure has the paper's mark."""

from __future__ import annotations

import csv
import html
import sys
from dataclasses import replace

import pytest
from lab.reproduce.entries import every_verdict

from filtersmith.lab.papers.published import Table, paper, table
from filtersmith.lab.reproduce.measured import Measured, Setting, measure, settings
from filtersmith.lab.reproduce.page import chart, file_name, render
from filtersmith.lab.reproduce.show import notes
from filtersmith.lab.reproduce.table import HEADS, cells, with_something
from filtersmith.lab.reproduce.verdict import AGREES, CANNOT_TELL, DIFFERS, DIRECTION, OTHER_DATA, RULE

pytest.importorskip("jinja2", reason="pages need the extra filtersmith[report]")
pytest.importorskip("matplotlib", reason="pages need the extra filtersmith[report]")

TABLE = table("repr/table1")


def found() -> dict[Setting, list[Measured]]:
    entries = every_verdict()
    return {one: measure(TABLE, entries, one) for one in settings(TABLE, entries)}


def text_of(of: Table, rows: dict[Setting, list[Measured]]) -> str:
    return html.unescape(render(of, rows).replace("<wbr>", ""))


def test_every_verdict_cell_and_sentence_is_there() -> None:
    page = text_of(TABLE, found())
    assert f"<h1>{TABLE.id}: {TABLE.title}</h1>" in page
    assert f'<a href="{paper("repr").url}">{paper("repr").title}</a>' in page
    assert TABLE.claim in page
    for setting, rows in found().items():
        assert f"<h2>{setting.words}</h2>" in page
        for one in with_something(rows):
            name, *others = cells(TABLE, one)
            assert f'<th scope="row">{one.row.n}: {name}</th>' in page
            assert all(f">{cell}</td>" in page for cell in others)
        assert all(f"<li>{note}</li>" in page for note in notes(TABLE, rows))
    for word in (AGREES, DIRECTION, DIFFERS, CANNOT_TELL, OTHER_DATA):
        assert f'<div class="words">{word}: ' in page
    assert page.count(RULE) == 1
    assert page.count(f'<th scope="col">{HEADS[-1]}</th>') == 3
    assert "<dt>Rows 1, 2, 3, 4</dt><dd>CPU (some processor)</dd>" in page
    order = ("<figure", "What can be concluded", "What cannot", "<table", "R1, inconsistent", RULE, "Hardware")
    assert [page.index(one) for one in order] == sorted(page.index(one) for one in order)


def test_the_papers_difference_is_a_mark_in_the_figure_its_words_and_its_data() -> None:
    first, second, _ = found().values()
    figure = chart(TABLE, first)
    assert figure is not None
    assert figure.baseline == "", "each row has its own"
    names = [line.label.partition(": ")[0] for line in figure.lines]
    assert names == ["row 2 − row 1", "row 3 − row 1", "row 4 − row 1"]
    line = figure.lines[1]
    assert line.description.endswith("; seeds +4.50, +4.50, +4.00; paper +4.30")
    assert (line.words, line.evidence.split(";")[0]) == ("agrees: better by 3.62 to 5.05 points", "paper +4.30")
    assert line.interval is not None
    assert line.published is not None
    assert line.interval[0] < line.published < line.interval[1]
    assert figure.picture.alt == (
        "3 rows against the rows that they are compared with, by interval: 2 better, 0 worse, 1 open; "
        "the paper's difference is marked in 3 lines"
    )
    heads, *rows = csv.reader(figure.picture.csv.splitlines())
    assert heads[0] == "row"
    assert heads[-4:] == ["paper", "seed 0", "seed 1", "seed 2"]
    assert [row[heads.index("paper")] for row in rows] == ["0.7", "4.3", "4.6"]
    assert chart(TABLE, second[:1]) is None
    page = render(TABLE, found())
    assert page.count("the paper</li>") == 3
    assert page.count('<path class="published"') == 3 + 5, "in each key and in each line"
    assert "baseline" not in page.partition("</style>")[2].partition("<script>")[0]


def test_a_row_of_another_table_is_named_with_it() -> None:
    of = table("kflo/table3")
    (row,) = [one for one in of.rows if one.n == 1]
    one = replace(found()[next(iter(found()))][2], row=row)
    figure = chart(of, [one])
    assert figure is not None
    assert figure.lines[0].label.startswith("row 1 − kflo/table1 row 3: ")


def test_a_setting_without_pairs_says_so_and_parts_of_a_table_are_named() -> None:
    setting, rows = next(iter(found().items()))
    page = text_of(TABLE, {setting: rows[:1]})
    assert "so there is no difference to draw" in page
    assert page.count("<figure") == 1, "the accuracy over the epochs"
    assert "Row 1 of 8: top-1 test accuracy, %" in page
    assert "<nav" not in page


def test_the_best_epoch_is_said_where_the_papers_rows_are_that() -> None:
    setting, (base, _, third, fourth) = next(iter(found().items()))
    best = replace(third, row=replace(third.row, reported="best"))
    assert "its last epoch (row 3: of the best test epoch), minus" in text_of(TABLE, {setting: [base, best, fourth]})


def test_hostile_texts_are_shown_as_text() -> None:
    setting, (base, _, third, _) = next(iter(found().items()))
    bad = '"><script>alert(1)</script>|'
    row = replace(third.row, label=bad)
    rows = [base, replace(third, row=row, hardware=(bad,))]
    of = replace(TABLE, title=bad, claim=bad, notes=(replace(TABLE.notes[0], text=bad, rows=()),))
    page = render(of, {replace(setting, data=bad): rows})
    assert page.count("<script>") == 1
    assert "alert(1)</script>" not in page
    assert "alert(1)&lt;/script&gt;|" in page, "no backslash of Markdown"
    assert "\\|" not in page.partition("</style>")[2].partition("<script>")[0]


def test_it_comes_out_the_same_each_time() -> None:
    assert render(TABLE, found()) == render(TABLE, found())
    assert file_name(TABLE) == "repr-table1.html"


def test_it_needs_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ValueError, match=r"the report needs jinja2.*filtersmith\[report\]"):
        render(TABLE, found())
