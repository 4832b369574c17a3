"""Pictures with their data: numbers stay numbers, and what others wrote is never a formula."""

from __future__ import annotations

import csv
import doctest
import io
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filtersmith.common.words import one_line
from filtersmith.lab.results import picture
from filtersmith.lab.results.picture import FORMULA, Picture, as_csv


@pytest.mark.parametrize("text", ["=1+1", "+wau", "-3.1", "@SUM(A1)", "\t=1", " =1", "\uff1d1+1", "\n=1"])
def test_no_text_is_a_formula(text: str) -> None:
    ((cell,),) = csv.reader(io.StringIO(as_csv([text], [])))
    assert cell == f"'{text.strip()}"


def test_a_name_of_several_lines_makes_no_row_of_its_own() -> None:
    assert as_csv(["method"], [["wau\r=1+1"], ["wau\n=1+1"]]) == "method\nwau =1+1\nwau =1+1\n"


def test_numbers_stay_numbers_and_nothing_is_empty() -> None:
    assert as_csv(["method", "points", "seeds"], [["wau", -3.1, 20], ["kflo(depth=2,width=4)", None, 0]]) == (
        'method,points,seeds\nwau,-3.1,20\n"kflo(depth=2,width=4)",,0\n'
    )


@given(st.lists(st.lists(st.text() | st.floats(allow_nan=False) | st.integers(), min_size=2, max_size=2)))
def test_what_is_written_can_be_read(rows: list[list[str | float | int]]) -> None:
    heads, *read = csv.reader(io.StringIO(as_csv(["a", "b"], rows), newline=""))
    assert heads == ["a", "b"]
    for row, cells in zip(rows, read, strict=True):
        for value, cell in zip(row, cells, strict=True):
            if isinstance(value, str):
                assert cell.removeprefix("'") == one_line(value).removeprefix("'")
                assert not cell.startswith(FORMULA)
            else:
                assert type(value)(cell) == value


def test_the_link_holds_the_data_and_the_file_has_a_plain_name() -> None:
    data = as_csv(["method", "%"], [["#wau & \"co\"+'x'", 1.5]])
    shown = Picture("Test accuracy, %, by epoch", "words", data)
    assert shown.file == "test-accuracy-by-epoch.csv"
    kind, _, coded = shown.link.partition(",")
    assert kind == "data:text/csv;charset=utf-8"
    assert unquote(coded) == data
    assert not set(coded) & set("#\"'<>& \n+")


def test_the_examples_in_the_docstrings() -> None:
    results = doctest.testmod(picture)
    assert (results.failed, results.attempted > 0) == (0, True)
