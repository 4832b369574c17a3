from __future__ import annotations

import io
import json
from collections import Counter
from types import ModuleType, SimpleNamespace

import pytest
from reference.example_results import LONG_NAME, by_method, everything, run
from reference.project_scripts import script_of
from rich.console import Console

from filtersmith.lab.results import document as results
from filtersmith.lab.results import tables
from filtersmith.lab.results.numbers import MINUS, points
from filtersmith.lab.results.statistics import summarize

BEGIN, END = "<!-- table: results/digits.json -->", "<!-- /table -->"


def printed(comparison: results.Comparison, width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(tables.to_terminal([tables.build_table(comparison)]))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def squeezed(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize("width", [50, 80, 100, 200])
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


def test_at_80_columns_every_row_has_its_figures_in_one_line():
    lines = printed(everything(), 80)
    for row in tables.build_table(everything()).rows:
        figures = [row.last, row.difference, row.best, row.parameters.split("/")[0].strip()]
        assert any(all(cell in line for cell in figures) for line in lines), figures


def test_method_names_fold_at_commas_first():
    assert tables.fold(LONG_NAME, 22) == ["wau(rate=0.5,", "unit=input-channel,", "draw=with-replacement)"]
    assert tables.fold("dacnn+regulators+wau(rate=0.3)@dacnn18-mix", 17) == [
        *("dacnn+regulators+", "wau(rate=0.3)", "@dacnn18-mix")
    ]
    assert tables.fold(LONG_NAME, 18) == ["wau(rate=0.5,unit=", "input-channel,", "draw=with-", "replacement)"]


def test_the_cells_and_remarks_say_what_happened():
    table = tables.build_table(everything())
    baseline, long, kflo, asa, lost, never = table.rows
    assert baseline.figures == ("91.00 ± 1.00", "—", "92.00", "19.6k")
    assert long.difference == "-81.00 [-92.00, -70.00]".replace("-", MINUS)
    assert kflo.parameters == "25.4M / 11.2M"
    assert (asa.last, asa.note) == ("97.00 ± 0.00", "2 of 3 seeds, 1 failed")
    assert (lost.last, lost.note, lost.best) == ("failed", "0 of 3 seeds, 2 failed", "—")
    assert (never.last, never.note) == ("not run", "0 of 3 seeds")
    notes = "\n".join(table.remarks)
    assert "asa, seed 2, failed: the training loss is NaN in epoch 3" in notes
    assert "repr(s1=20), seed 2, was interrupted after 2 of 3 epochs." in notes


def test_times_are_printed_only_where_they_were_measured_alone():
    for alone in (False, True):
        comparison = everything().model_copy(update={"times_measured_alone": alone})
        table = tables.build_table(comparison)
        assert {len(row.figures) + 1 for row in table.rows} == {len(table.heads)} == {6 if alone else 5}
        assert [row.time for row in table.rows[::2]] == (["1.00", "2.50", "—"] if alone else [None] * 3)
        shown = (tables.to_markdown(table), "\n".join(printed(comparison, 80)), " ".join(tables.legend([table])))
        assert [("Time" in text) for text in shown] == [alone] * 3


def test_the_legend_follows_the_number_of_seeds():
    def notes(comparison: results.Comparison) -> str:
        table = tables.build_table(comparison)
        return "\n".join((*table.remarks, *table.legend))

    assert "of several seeds mean ± sample standard deviation" in notes(everything())
    assert "With 3 or fewer seeds the interval is a rough guide" in notes(everything())
    one = notes(by_method({"baseline": [0.5], "wau": [0.6]}))
    assert "Δ: last epoch minus the baseline" in one
    assert "rough guide" not in one, "one seed has no interval"
    assert "rough guide" not in notes(by_method({"baseline": [0.5] * 4, "wau": [0.6] * 4}))
    assert "Δ is empty: the comparison has no method named baseline" in notes(by_method({"wau": [0.5, 0.6]}))
    lost = everything().model_copy(update={"runs": (run("asa", 0, [0.4, 0.9, 0.97]),)})
    assert "Δ is empty: no method finished a seed that the baseline finished too" in notes(lost)


def test_several_tables_have_one_legend():
    few = tables.build_table(everything())
    many = tables.build_table(by_method({"baseline": [0.5] * 4, "wau@resnet20": [0.6] * 4}))
    legend = tables.legend([few, many, few])
    assert len(legend) == len(set(legend))
    assert set(legend) == {*few.legend, *many.legend}
    console = Console(width=200, file=io.StringIO())
    console.print(tables.to_terminal([few, many]))
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().count("Last epoch: ") == 1


def test_the_legend_says_what_an_arm_on_another_network_is_compared_with():
    accuracies = {"baseline": [0.5, 0.6], "baseline@resnet20": [0.75, 0.75], "wau@resnet20": [0.5, 0.7]}
    table = tables.build_table(by_method(accuracies))
    assert [row.method for row in table.rows] == list(accuracies)
    assert table.rows[1].difference.startswith("+20.00 [")
    (note,) = (note for note in table.legend if note.startswith("METHOD@NETWORK: "))
    assert "compared with the baseline on the one in the title" in note
    plain = tables.build_table(by_method({"baseline": [0.5], "wau(layers=['a@b'])": [0.5]}))
    assert "@NETWORK" not in "".join(plain.legend)


def test_parameters_set_to_zero_are_no_deployed_ones():
    sizes = {"parameters_deployed": 9_000, "sub_phases": ((1, 3),)}
    cut_off = run("prune", 0, [0.1], status="interrupted")  # before it pruned anything
    runs = [run("baseline", s, [0.5] * 3) for s in range(2)]
    runs += [cut_off, run("prune", 1, [0.5] * 3, **sizes)]
    table = tables.build_table(
        everything().model_copy(update={"methods": ("baseline", "prune"), "runs": tuple(runs)})
    )
    assert table.rows[1].parameters == "19.6k / 9.00k"
    assert "Deployed parameters that were set to zero for good do not count." in table.legend
    assert "set to zero" not in "".join(tables.build_table(everything()).legend)


@pytest.mark.parametrize("width", [1, 5, 22, 80])
def test_fold_keeps_every_character(width):
    lines = tables.fold(LONG_NAME, width)
    assert "".join(lines) == LONG_NAME
    assert all(0 < len(line) <= width for line in lines)


def test_markdown_has_whole_rows_and_shows_text_as_it_is():
    text = tables.to_markdown(tables.build_table(everything()))
    title, _, head, rule, *rest = text.split("\n")
    assert title == "**digits · vanilla · cosine**"
    rows = rest[: rest.index("")]
    assert len(rows) == 6
    assert "Last epoch: " not in text, "the legend stands elsewhere, once"
    for line in (head, rule, *rows):
        assert line.replace("\\|", "").count("|") == 6, line
    assert f"| `{LONG_NAME}` | 10.00 ± 10.00 |" in text
    assert "`<i>odd</i>\\|name`" in text  # in code, where only the pipe would break the row
    assert tables.to_markdown(tables.build_table(everything()), figures=2).split("\n")[2].count("|") == 4
    assert "&lt;b>lower&lt;/b> [red]the \\| rate" in text


@pytest.fixture
def script() -> ModuleType:
    return script_of("update_tables")


def test_regions_are_checked_and_rewritten(tmp_path, script, capsys):
    results.save(everything(), tmp_path / "results" / "digits.json")
    readme = tmp_path / "README.md"
    example = f"```\n{BEGIN}\nan example\n{END}\n```\n"
    readme.write_text(f"# Title\n{example}\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    (tmp_path / "OTHER.md").write_text("no table", encoding="utf-8")
    at = ["--root", str(tmp_path)]

    assert script.main([*at, "--check"]) == 1
    assert "README.md is out of date" in capsys.readouterr().err
    assert script.main(at) == 0
    text = readme.read_text(encoding="utf-8")
    table = tables.to_markdown(tables.build_table(everything()))
    assert text == f"# Title\n{example}\n{BEGIN}\n\n{table}\n\n{END}\nafter\n"
    assert script.main([*at, "--check"]) == 0
    assert (tmp_path / "OTHER.md").read_text() == "no table"


def test_a_papers_figures_stand_beside_the_measured_ones(tmp_path, script):
    results.save(everything(), tmp_path / "results" / "digits.json")
    paper = {"source": "A paper, Table 1", "columns": [{"title": "Paper: net", "values": {}}]}
    values = {"baseline": [90.0, 0.5], LONG_NAME: [89.25, 0.25]}
    paper["columns"][0]["values"] = values
    (tmp_path / "paper.json").write_text(json.dumps(paper), encoding="utf-8")
    readme = tmp_path / "README.md"
    readme.write_text(f"{BEGIN.replace(' -->', ' beside paper.json -->')}\n{END}\n", encoding="utf-8")
    assert script.main(["--root", str(tmp_path)]) == 0
    text = readme.read_text(encoding="utf-8")
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if "|" in line}
    assert rows["`baseline`"].endswith("| 90.00 ± 0.50 |")
    assert rows[f"`{LONG_NAME}`"].endswith("| 89.25 ± 0.25 (−0.75) |")
    assert {line.replace("\\|", "").count("|") for line in rows.values()} == {4}
    assert "Paper: A paper, Table 1." in text
    summary = {one.method: one for one in summarize(everything())}[LONG_NAME]
    assert f"| {tables.spread(summary.last)} ({points(summary.difference.mean)}) | 89.25" in text


def test_a_table_of_rows_is_printed_as_it_is(tmp_path, script):
    table = {"title": "T", "columns": ["a", "b"], "rows": [["`x`", "1"], ["`y`", "2"]], "notes": ["n."]}
    (tmp_path / "results" / "tables").mkdir(parents=True)
    (tmp_path / "results" / "tables" / "t.json").write_text(json.dumps(table), encoding="utf-8")
    readme = tmp_path / "README.md"
    readme.write_text(f"<!-- table: results/tables/t.json -->\n{END}\n", encoding="utf-8")
    assert script.main(["--root", str(tmp_path)]) == 0
    lines = readme.read_text(encoding="utf-8").splitlines()[1:-1]
    assert lines == ["", "**T**", "", "| a | b |", "| --- | ---: |", "| `x` | 1 |", "| `y` | 2 |", "", "- n.", ""]


def test_columns_of_text_stand_left_and_ratios_are_short(script):
    table = {"title": "T", "text_columns": 2, "columns": ["a", "b", "c"], "rows": [["x", "y", 1.1], ["x", "", 0.995]]}
    *_, rule, first, second = script.rows({**table, "rows": [*table["rows"], ["z", "", None]]})
    assert (rule, first, second) == ("| x | y | 1.10 |", "| x |  | 0.995 |", "| z |  | — |")
    assert "| --- | --- | ---: |" in script.rows(table)


def test_a_short_table_and_one_legend_for_all(tmp_path, script):
    results.save(everything(), tmp_path / "results" / "digits.json")
    results.save(by_method({"baseline": [0.5] * 4, "wau@lenet5": [0.6] * 4}), tmp_path / "results" / "more.json")
    short = "\n".join(script.region(["results/digits.json", "short"], tmp_path))
    assert short == tables.to_markdown(tables.build_table(everything()), figures=2)
    assert "| `baseline` | 91.00 ± 1.00 | — |" in short
    notes = list(script.region(["legend"], tmp_path))
    assert len(notes) == len(set(notes)) == 6
    assert sum("METHOD@NETWORK" in note for note in notes) == 1


def test_the_methods_stand_with_their_cost_and_their_gains(tmp_path, script, monkeypatch):
    two = {"baseline": [0.5, 0.5], "wau(rate=0.3)": [0.51, 0.48]}
    three = {"baseline": [0.5] * 3, "wau(rate=0.3)": [0.51, 0.52, 0.53], "ema": [0.5] * 3}
    results.save(by_method(two), tmp_path / "results" / "two.json")
    results.save(by_method(three), tmp_path / "results" / "three.json")
    chosen = {
        "settings": [{"title": "A", "file": "two.json"}, {"title": "B", "file": "three.json"}],
        "arms": {"wau": "wau(rate=0.3)"},
        "costs_as": {"asa": "wau"},
    }
    parts = [["`wau`", "optimizer's step", 1.41], ["`wau`", "training step", 1.1], ["`wau`", "training step", 1.2]]
    times = {"columns": ["Method", "What is timed", "Time ×"], "rows": parts}
    for file, document in {
        "results/tables/methods.json": chosen,
        "benchmarks/results.json": {"times": times},
        "benchmarks/arithmetic.json": {"ratios": {"wau": 1.0, "dbb": 2.5}},
    }.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(json.dumps(document), encoding="utf-8")
    other = SimpleNamespace(name="other", cls=Counter, same_network=True, summary="")
    monkeypatch.setattr(script, "METHODS", {**script.METHODS, "other": other})

    lines = list(script.region(["methods"], tmp_path))
    cells = {line.split("`")[1]: line.split(" | ") for line in lines[2:]}
    assert list(cells) == [name for name in script.METHODS if name != "other"], (
        "the methods of other packages are theirs"
    )
    assert cells["wau"][0] == "| [`wau`](src/filtersmith/methods/wau.py)"
    assert cells["wau"][2:] == ["same", "1.10 to 1.20", "A +1.00, −2.00; B +2.00 [+1.00, +3.00] |"]
    assert cells["asa"][2:] == ["same", "1.10 to 1.20", "— |"]
    assert cells["dbb"][2:] == ["same", "(2.50)", "— |"]
    assert cells["ema"][3:] == ["—", "B 0.00 [0.00, 0.00] |"]
    assert cells["dacnn"][2] == "changes"


def test_several_comparisons_stand_beside_one_paper(tmp_path, script):
    results.save(everything(), tmp_path / "a.json")
    other = {"model": "resnet20", "title": "digits · resnet20 · no augmentation · cosine"}
    results.save(everything().model_copy(update=other), tmp_path / "b.json")
    paper = {"source": "A paper", "columns": [{"title": "Paper: net", "values": {}}]}
    (tmp_path / "paper.json").write_text(json.dumps(paper), encoding="utf-8")
    readme = tmp_path / "README.md"
    readme.write_text(f"<!-- table: a.json b.json beside paper.json -->\n{END}\n", encoding="utf-8")
    assert script.main(["--root", str(tmp_path)]) == 0
    head = next(line for line in readme.read_text(encoding="utf-8").splitlines() if line.startswith("| Method"))
    settings = ("vanilla", "resnet20, no augmentation")
    one, other = (f" digits, {setting}, {everything().epochs} epochs |" for setting in settings)
    assert head.index(one) < head.index(other) < head.index("| Paper: net")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (f"{BEGIN}\n", "not closed"),
        (f"{BEGIN}\n{BEGIN}\n{END}\n", "line 2"),
        (f"{BEGIN}\n{END}\n", "does not exist"),
        (f"<!-- table: results/digits.json long -->\n{END}\n", "no table is made of 'results/digits.json long'"),
    ],
)
def test_a_region_that_cannot_be_filled_is_named_and_the_file_kept(tmp_path, script, capsys, body, message):
    if message != "does not exist":
        results.save(everything(), tmp_path / "results" / "digits.json")
    (tmp_path / "README.md").write_text(body, encoding="utf-8")
    assert script.main(["--root", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "README.md" in error
    assert message in error
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == body


def test_the_tables_of_this_repository_are_those_of_its_results(script, capsys):
    assert script.main(["--check"]) == 0, capsys.readouterr().err
