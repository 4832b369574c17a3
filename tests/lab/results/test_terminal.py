from __future__ import annotations

import io

import pytest
from reference.example_results import LONG_NAME, by_method, everything
from rich.console import Console
from rich.table import Table

from filtersmith.lab.results import document as results
from filtersmith.lab.results import tables, terminal


def printed(comparison: results.Comparison, width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(terminal.to_terminal([tables.build_table(comparison)]))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def squeezed(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize("width", [30, 50, 80, 100, 200])
def test_nothing_is_cut_off_and_no_line_is_too_long(width):
    lines = printed(everything(), width)
    table = tables.build_table(everything())
    assert max(len(line) for line in lines) <= width
    text = "\n".join(lines)
    assert "…" not in text
    for note in (*table.remarks, *table.legend):
        assert squeezed(note) in squeezed(text.replace("·", ""))
    top = next(i for i, line in enumerate(lines) if line.startswith("──")) + 1
    body = lines[top : lines.index("", top) if "" in lines[top:] else None]
    first_column = squeezed("".join(line.split("  ")[0] for line in body))
    for row in table.rows:
        assert squeezed(row.method) in first_column
        assert squeezed(row.line) in squeezed(text.replace("·", ""))


def test_at_80_columns_every_row_has_its_figures_in_one_line():
    lines = printed(everything(), 80)
    for row in tables.build_table(everything()).rows:
        figures = [row.last, row.difference, row.best, row.parameters.split("/")[0].strip()]
        assert any(all(cell in line for cell in figures) for line in lines), figures


def test_where_there_is_room_every_row_is_one_line_and_so_are_the_heads():
    lines = printed(everything(), 100_000)
    table = tables.build_table(everything())
    rule = next(i for i, line in enumerate(lines) if line.startswith("──"))
    assert lines[rule - 1].split("  ")[0] == "Method"
    for row, line in zip(table.rows, lines[rule + 1 :], strict=False):
        cells = [row.method, row.note, row.last, row.difference, row.best, row.parameters]
        assert [cell for cell in cells if cell not in line] == []


def test_a_sentence_for_each_method_stands_below_the_table():
    lines = printed(by_method({"baseline": [0.5] * 3, "wau": [0.6, 0.61, 0.65], "asa": [0.5] * 3}), 80)
    assert [line for line in lines if line.startswith(("· wau", "· asa", "· baseline"))] == [
        "· wau: better by 5.43 to 18.57 points (p 0.25, Holm 0.50; 3 pairs; these seeds",
        "· asa: the same in every seed (p 1.00, Holm 1.00; 3 pairs)",
    ]
    assert "  would show 8.64)" in lines


def test_method_names_fold_at_commas_first():
    assert terminal.fold(LONG_NAME, 22) == ["wau(rate=0.5,", "unit=input-channel,", "draw=with-replacement)"]
    assert terminal.fold("dacnn+regulators+wau(rate=0.3)@dacnn18-mix", 17) == [
        *("dacnn+regulators+", "wau(rate=0.3)", "@dacnn18-mix")
    ]
    assert terminal.fold(LONG_NAME, 18) == ["wau(rate=0.5,unit=", "input-channel,", "draw=with-", "replacement)"]


LAYER = "features.denseblock1.denselayer1.conv1"


@pytest.mark.parametrize("width", [1, 5, 22, 80])
def test_fold_keeps_every_character(width):
    for fold, name in ((terminal.fold, LONG_NAME), (terminal.fold_at_dots, LAYER)):
        lines = fold(name, width)
        assert "".join(lines) == name
        assert all(0 < len(line) <= width for line in lines)


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (80, [LAYER]),
        (44, ["features.denseblock1.", "denselayer1.conv1"]),
        (32, ["features.", "denseblock1.", "denselayer1.", "conv1"]),
    ],
)
def test_names_of_layers_go_on_behind_their_dots_where_the_column_is_narrow(width, shown):
    grid = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), show_header=False)
    grid.add_column(overflow="fold")
    grid.add_column(no_wrap=True)
    grid.add_row(terminal.LayerName(LAYER), "0.123 (0.123) 100%")
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(grid)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == shown
    assert lines[0].rstrip().endswith("0.123 (0.123) 100%")


def test_scores_of_a_task_have_a_column_each_and_a_table_of_their_own_where_it_is_narrow():
    found = by_method({"baseline": [0.5] * 3})
    scores = {"AP50": 0.75, "AP75": 0.125}
    scored = [
        run.model_copy(update={"epochs": tuple(one.model_copy(update={"scores": scores}) for one in run.epochs)})
        for run in found.runs
    ]
    found = found.model_copy(update={"task": "detection", "runs": tuple(scored), "test_images": 72})
    table = tables.build_table(found)
    assert table.heads[1:4] == ("AP, %", "AP50, %", "AP75, %")
    assert table.rows[0].figures[:3] == ("50.00 ± 0.00", "75.00 ± 0.00", "12.50 ± 0.00")
    assert table.legend[0].startswith("AP, AP50, AP75: test average precision after the last epoch")
    assert not any("test images is" in remark for remark in table.remarks)
    beside = ["75.00 ± 0.00", "12.50 ± 0.00"]
    for width, main, own in ((80, [], beside), (130, ["75.00", "12.50"], None), (400, beside, None)):
        lines = printed(found, width)
        assert max(map(len, lines)) <= width
        first, *rest = [line for line in lines if line.startswith("baseline")]
        assert all(cell in first for cell in ["50.00 ± 0.00", *main])
        assert [line.split("  ")[0] for line in rest] == ([] if own is None else ["baseline"])
        assert own is None or all(cell in rest[0] for cell in own)
