"""The script that writes the tables of the documentation."""

from __future__ import annotations

import json
from collections import Counter
from types import ModuleType, SimpleNamespace

import pytest
from reference.example_results import LONG_NAME, by_method, everything
from reference.project_scripts import script_of

from filtersmith.lab.results import document as results
from filtersmith.lab.results import markdown, tables
from filtersmith.lab.results.numbers import points
from filtersmith.lab.results.statistics import summarize

BEGIN, END = "<!-- table: results/digits.json -->", "<!-- /table -->"


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
    table = markdown.to_markdown(tables.build_table(everything()))
    assert text == f"# Title\n{example}\n{BEGIN}\n\n{table}\n\n{END}\nafter\n"
    assert script.main([*at, "--check"]) == 0
    assert (tmp_path / "OTHER.md").read_text() == "no table"


def test_a_papers_figures_stand_beside_the_measured_ones(tmp_path, script):
    results.save(everything(), tmp_path / "results" / "digits.json")
    of_rows = {"baseline": "kflo/table1 1", LONG_NAME: "kflo/table1 25"}
    of_errors = {"baseline": "repr/table3 2", LONG_NAME: "repr/table3 6"}
    columns = [{"title": "Paper: net", "rows": of_rows}, {"title": "Paper: errors", "rows": of_errors}]
    paper = {"columns": columns}
    (tmp_path / "paper.json").write_text(json.dumps(paper), encoding="utf-8")
    readme = tmp_path / "README.md"
    readme.write_text(f"{BEGIN.replace(' -->', ' beside paper.json -->')}\n{END}\n", encoding="utf-8")
    assert script.main(["--root", str(tmp_path)]) == 0
    text = readme.read_text(encoding="utf-8")
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if "|" in line}
    assert rows["`baseline`"].endswith("| 86.26 ± 0.22 | 91.60 |")
    assert rows[f"`{LONG_NAME}`"].endswith("| 87.41 ± 0.23 (+1.15) | 93.10 (+1.50) |")
    assert {line.replace("\\|", "").count("|") for line in rows.values()} == {5}
    assert "Paper: Utilizing Excess Resources in Training Neural Networks (KFLO), Sec. 4.1, Tab. 1; Sec. 8" in text
    summary = {one.method: one for one in summarize(everything())}[LONG_NAME]
    assert f"| {tables.spread_cell(summary.last)} ({points(summary.difference.mean)}) | 87.41" in text


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
    assert short == markdown.to_markdown(tables.build_table(everything()), figures=3)
    assert "| `baseline` | 91.00 ± 1.00 | — | — |" in short
    notes = list(script.region(["legend"], tmp_path))
    assert len(notes) == len(set(notes)) == 9
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
    assert cells["wau"][2:] == ["same", "1.10 to 1.20", "A +1.00, −2.00; B +2.00 [−0.48, +4.48] |"]
    assert cells["asa"][2:] == ["same", "1.10 to 1.20", "— |"]
    assert cells["dbb"][2:] == ["same", "(2.50)", "— |"]
    assert cells["ema"][3:] == ["—", "B 0.00 |"]
    assert cells["dacnn"][2] == "changes"


def test_the_page_that_helps_to_choose_has_cost_gain_and_the_extremes_of_all_else(tmp_path, script):
    four = {"baseline": [0.5] * 4, "wau(rate=0.3)": [0.51, 0.52, 0.53, 0.52], "ema": [0.5] * 4}
    low = {"baseline": [0.5, 0.5], "wau": [0.47, 0.49], "wau+ema": [0.1, 0.1]}
    high = {"baseline": [0.5], "wau(rate=0.5)": [0.53], "wau(unit=element)": [0.9]}
    for name, values in {"four": four, "low": low, "high": high}.items():
        results.save(by_method(values), tmp_path / "results" / f"{name}.json")
    elsewhere = [{"title": "L", "file": "low.json"}, {"title": "H", "file": "high.json"}]
    settings = [{"title": "", "file": "four.json"}]
    for file, document in {
        "results/tables/methods.json": {"settings": settings, "arms": {"wau": "wau(rate=0.3)"}, "costs_as": {}},
        "results/tables/choose.json": {"elsewhere": elsewhere, "spellings": {"wau": ["wau", "wau(rate=0.5)"]}},
        "benchmarks/results.json": {"times": {"columns": ["Method", "What is timed", "Time ×"], "rows": []}},
        "benchmarks/arithmetic.json": {"ratios": {"wau": 1.0}},
    }.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(json.dumps(document), encoding="utf-8")

    lines = list(script.region(["choose"], tmp_path))
    cells = {line.split("`")[1]: [cell.strip() for cell in line.split("|")[2:-1]] for line in lines[2:]}
    assert set(cells) == set(script.METHODS)
    network, cost, weights, gain, shows, lowest, highest = cells["wau"]
    assert (network, cost, weights) == ("same", "(1.00)", "1.00")
    difference = next(one for one in summarize(by_method(four)) if one.method == "wau(rate=0.3)").difference
    assert (gain, shows) == (tables.difference_cell(difference), points(difference.detectable)[1:])
    assert (lowest, highest) == ("−2.00 (L; 2 seeds)", "+3.00 (H; 1 seed)"), "neither pairs nor controls"
    assert cells["ema"][3:] == ["0.00", "—", "—", "—"]
    assert cells["repr"][2:] == ["—"] * 5


def test_every_table_that_can_be_trained_stands_with_its_claim_and_what_was_measured(script):
    lines = list(script.region(["claims", "tables"], script.ROOT))
    cells = {line.split("`")[1]: [cell.strip() for cell in line.split("|")[2:-1]] for line in lines[2:]}
    trained = {one.id for key in script.PAPERS for one in script.paper(key).tables if one.trained()}
    assert set(cells) == trained
    assert cells["wau/table1"][0].startswith("Claims: WAU at r = 0.5 beats synchronous training")
    assert all(cell[2] == "—" for cell in cells.values() if cell[1] == "—"), "no verdict without a run"
    assert cells["wau/table1"][1] != "—"
    empty = list(script.claims([]))[2:]
    assert len(empty) == len(trained)
    assert all(line.endswith("| — | — |") for line in empty), "an empty ledger decides nothing"


def test_every_card_says_when_not_to_use_its_methods(script, tmp_path):
    text = "\n".join(script.region(["when-not"], tmp_path))
    assert all(f"`{name}`" in text for name in script.METHODS)
    assert "- **`asa`, `sas`, `flow`**: With the budget of one training" in text, "one card, one item"
    assert max(map(len, text.splitlines())) <= script.WIDTH
    assert "``" not in text


def test_several_comparisons_stand_beside_one_paper(tmp_path, script):
    results.save(everything(), tmp_path / "a.json")
    other = {"model": "resnet20", "title": "digits · resnet20 · no augmentation · cosine"}
    results.save(everything().model_copy(update=other), tmp_path / "b.json")
    paper = {"columns": [{"title": "Paper: net", "rows": {"baseline": "kflo/table1 1"}}]}
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


@pytest.mark.long
def test_the_tables_of_this_repository_are_those_of_its_results(script, capsys):
    assert script.main(["--check"]) == 0, capsys.readouterr().err


def test_the_cards_quote_the_comparison_with_twenty_seeds_as_its_file_has_it(script):
    document = results.load(script.ROOT / "results" / "digits-200.json")
    found = {summary.method: summary.difference for summary in summarize(document) if summary.difference}
    owners = {arm: arm.split("(")[0].split("@")[0].split("+")[0] for arm in found if "+" not in arm}
    quoted = {
        arm: " ".join(script.METHODS[name].card.split()) for arm, name in owners.items() if name in script.METHODS
    }
    assert {name.split("(")[0] for name in quoted} == set(script.METHODS) - {"kd"}
    pairs = {
        one.method: one.difference
        for one in summarize(results.load(script.ROOT / "results" / "digits-200-pairs.json"))
    }
    assert tables.difference_cell(pairs["kd"]) in " ".join(script.METHODS["kd"].card.split())
    assert all(pairs[method] == found[method] for method in ("wau", "repr", "ema")), "the same runs, trained again"
    for arm, card in quoted.items():
        if arm != "wau(unit=element)":
            assert tables.difference_cell(found[arm]) in card, arm
