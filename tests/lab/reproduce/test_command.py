"""``filtersmith reproduce`` from the command to the verdict, on a few images of digits."""

from __future__ import annotations

import json
import re
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from lab.tasks.detection.small_sets import voc
from lab.tasks.vqa.small_set import lay_out
from reference import thin
from reference.pictures import class_folders
from reference.running import digits
from torchvision.io import write_png

from filtersmith import cli
from filtersmith.lab.commands import Reproduction, reproduce
from filtersmith.lab.papers.published import table, tables
from filtersmith.lab.reproduce import command, ledger
from filtersmith.lab.reproduce.arms import arm_of
from filtersmith.lab.results.numbers import percent
from filtersmith.lab.tasks.detection import network
from filtersmith.lab.training import fit
from filtersmith.lab.training.errors import Interrupted

ROWS = [("wau/table6", "5"), ("repr/table1", "3"), ("kflo/table1", "25"), ("dacnn/table2", "1")]
"""A row of every paper."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with three training images and two test images of each digit."""
    root = tmp_path_factory.mktemp("data") / "few-digits"
    for split, part, count in (("train", digits().train, 3), ("test", digits().test, 2)):
        for number in range(10):
            folder = root / split / str(number)
            folder.mkdir(parents=True)
            for place in (part.labels == number).nonzero().flatten()[:count].tolist():
                write_png(part.images[place].expand(3, -1, -1).contiguous(), str(folder / f"{place}.png"))
    return f"imagefolder:{root}"


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A few images of each task, as users have them."""
    root = tmp_path_factory.mktemp("sets")
    for split, count in (("train", 2), ("val", 1)):
        class_folders(root / "photos" / split, count, size=(40, 40))
    cells = voc(root / "cells", {"trainval": ["a", "b"], "test": ["c"]})
    return {
        "photos": f"imagefolder:{root / 'photos'}",
        "cells": f"voc:{cells}",
        "questions": f"vqa:{lay_out(root / 'questions')}",
    }


def typed(data: str | None, out: Path, **changed: str) -> Reproduction:
    values = {"seeds": "3", "scale": "0.03", "jobs": "1", **changed}
    return Reproduction(
        values["seeds"], values["scale"], data, out, values["jobs"], values.get("time_limit"), None, None
    )


@pytest.mark.parametrize(("name", "rows"), ROWS)
def test_a_row_of_every_paper_from_the_command_to_the_verdict(
    name: str, rows: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = typed(data, tmp_path, seeds="1", scale="0.02" if name != "repr/table1" else "0.03")
    assert reproduce(name, rows, asked, plan=False, next=False) == 0
    printed = capsys.readouterr().out
    (row,) = re.findall(rf"^{name} {rows}: .*$", printed, re.MULTILINE)
    assert "(1 seed; best epoch" in row
    assert f"{name}: with 1 seed there is no interval; a verdict needs 3" in printed
    assert row.endswith("; not comparable (data)")
    assert "of the schedule" in printed
    written = tmp_path / "runs" / "pages" / f"{name.replace('/', '-')}.html"
    assert printed.splitlines()[-1] == f"Page: {written.resolve()}"
    assert f"<h1>{name}: " in written.read_text(encoding="utf-8")
    assert len(ledger.load(tmp_path / "ledger")) == 2
    assert reproduce(name, rows, asked, plan=False, next=False) == 0
    again = capsys.readouterr().out
    assert "nothing is missing" in again
    assert row in again


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thin networks, without checkpoints: those of every task are tested where runs are resumed."""
    thin.use(monkeypatch.setattr)
    monkeypatch.setattr(network, "_width", lambda *arguments: 32)
    monkeypatch.setattr(fit, "_save_checkpoint", lambda work: None)


def run_rows(
    name: str, rows: str, asked: Reproduction, capsys: pytest.CaptureFixture[str]
) -> tuple[dict[int, str], str]:
    """The printed rows of a table, by number, and all that was printed; a second call trains nothing."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "RePr: a sub-network phase ended", UserWarning)  # an epoch has one step
        assert reproduce(name, rows, asked, plan=False, next=False) == 0
    printed = capsys.readouterr().out
    found = {int(n): row for n, row in re.findall(rf"^{name} ([0-9]+): (.*)$", printed, re.MULTILINE)}
    assert reproduce(name, rows, asked, plan=False, next=False) == 0
    again = capsys.readouterr().out
    assert "nothing is missing" in again
    assert all(row in again for row in found.values())
    return found, printed


@pytest.mark.long
@pytest.mark.usefixtures("quick")
def test_rounds_on_imagenet_are_measured_before_the_next_one_prunes(
    sets: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = typed(f"{sets['photos']},image_size=32", tmp_path, seeds="1", scale="0.1")
    found, printed = run_rows("repr/table5", "2,3,4", asked, capsys)
    assert list(found) == [1, 2, 3, 4]
    assert "repr/table5: photos at 32 pixels · 0.1 of the schedule; top-1 test error, %; on " in printed
    entries = {entry.spec["method"][:4]: entry for entry in ledger.load(tmp_path / "ledger")}
    assert entries["repr"].sub_phases == ((2, 3), (5, 6), (8, 9))
    accuracies = entries["repr"].test_accuracy
    for number, epoch in ((2, 5), (3, 8), (4, 10)):
        assert f"; ours {percent(1 - accuracies[epoch - 1])} (1 seed; best epoch " in found[number]
        assert found[number].endswith("; not comparable (data)")


@pytest.mark.long
@pytest.mark.usefixtures("quick")
def test_questions_after_backbones_with_and_without_repr(
    sets: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FILTERSMITH_DATA", str(tmp_path))
    data = f"{sets['questions']},imagenet={sets['photos']},image_size=32"
    found, printed = run_rows("repr/table6", "5,6", typed(data, tmp_path, seeds="1", scale="0.03"), capsys)
    assert "questions at 32 pixels after photos at 32 pixels · 0.03 of the schedule; accuracy, %" in printed
    entries = ledger.load(tmp_path / "ledger")
    assert sorted(entry.data.partition(" ")[0] for entry in entries) == ["photos"] * 2 + ["questions"] * 2
    (taught,) = (one for one in entries if (one.spec.get("pretrained") or {}).get("method", "").startswith("repr"))
    assert taught.spec["frozen"] is True
    assert len(taught.test_accuracy) == 9, "0.03 of 302 epochs"
    epoch = taught.test_accuracy[-1]
    assert (
        f"RePr (Ortho), S1 = 20, S2 = 10, N = 3, p = 0.3, criterion = Ortho, All; paper 64.6; ours {percent(epoch)} ("
        in found[5]
    )
    assert f", Yes/No; paper 83.4; ours {percent(taught.scores['yes/no'][-1])} (1 seed" in found[6]
    assert set(taught.scores) == {"yes/no", "number", "other"}
    assert all(found[number].endswith("; not comparable (data)") for number in (5, 6))


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "row", "base", "scale", "score"),
    [("wau/table3", 2, 1, "0.03", "AP50"), ("repr/table7", 6, 2, "0.13", "")],
)
@pytest.mark.usefixtures("quick")
def test_detectors_from_scratch(
    name: str,
    row: int,
    base: int,
    scale: str,
    score: str,
    sets: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = typed(f"{sets['cells']},image_size=64", tmp_path, seeds="1", scale=scale)
    found, printed = run_rows(name, str(row), asked, capsys)
    assert f"{name}: from scratch; the paper's backbones are trained before: that needs ImageNet (" in printed
    assert f"{name}: cells at 64 pixels from scratch · {scale} of the schedule; " in printed
    assert sorted(found) == sorted([row, base])
    assert found[row].endswith("; not comparable (data)")
    entries = {entry.spec["method"].partition("(")[0]: entry for entry in ledger.load(tmp_path / "ledger")}
    assert set(entries) == {"baseline", name.partition("/")[0]}
    for entry in entries.values():
        assert entry.spec["from_scratch"] is True
        assert set(entry.scores) == {"AP50", "AP75"}
        assert len(entry.scores["AP50"]) == len(entry.test_accuracy)
    last = entries["baseline"].scores[score][-1] if score else entries["baseline"].test_accuracy[-1]
    assert f"ours {percent(last)} (1 seed" in found[base]


def test_a_ledger_of_another_machine_is_gone_on_with(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reproduce("repr/table1", "1", typed(data, tmp_path / "one", seeds="1", scale="0.01"), plan=False, next=False)
    (tmp_path / "two").mkdir()
    (tmp_path / "one" / "ledger").rename(tmp_path / "two" / "ledger")
    reproduce("repr/table1", "1", typed(data, tmp_path / "two", seeds="2", scale="0.01"), plan=False, next=False)
    assert "[1/1]" in capsys.readouterr().out
    found = ledger.load(tmp_path / "two" / "ledger")
    assert sorted(entry.seed for entry in found) == [0, 1]
    text = json.dumps([entry.model_dump(mode="json") for entry in found])
    assert str(tmp_path) not in text, "no path of this machine"


def test_without_the_extra_the_last_line_says_that_the_page_needs_it(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacks() -> None:
        raise ValueError("the report needs jinja2, which is not installed")

    monkeypatch.setattr(command, "need_extra", lacks)
    assert reproduce("repr/table1", "1", typed(data, tmp_path, seeds="1", scale="0.01"), plan=False, next=False) == 0
    printed = capsys.readouterr().out
    assert "repr/table1 1: C^3(32), Std, CIFAR-10; paper 72.1; ours " in printed
    assert printed.splitlines()[-1] == "No page: the report needs jinja2, which is not installed"
    assert not (tmp_path / "runs" / "pages").exists()


def test_next_takes_the_most_valuable_and_stops_in_time(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "QUEUE", 2)
    options = typed(data, tmp_path, seeds="5", scale="0.03")
    assert reproduce(None, None, options, plan=False, next=True) == 0
    first = arm_of(table("repr/table1").row(1), table("repr/table1"), 0.03)
    assert {(entry.key, entry.seed) for entry in ledger.load(tmp_path / "ledger")} == {(first.key, 0), (first.key, 1)}
    assert "left out: rows on cifar100: " in capsys.readouterr().out
    with pytest.raises(Interrupted) as stopped:
        reproduce(None, None, replace(options, time_limit="1s"), plan=False, next=True)
    assert stopped.value.code == 75
    assert len(ledger.load(tmp_path / "ledger")) == 2, "what was finished is kept"


def test_the_plan_of_all_has_every_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce("repr/table1", None, typed(None, Path("nowhere")), plan=True, next=False) == 0
    printed = capsys.readouterr().out
    assert "repr/table1: 8 rows, " in printed
    assert "repr/table1:   train.lr = 0.01 (Sec. 4)" in printed
    for of in tables():
        assert list(command._not_trained(of)) or of.trained()


def test_the_list_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce(None, None, Reproduction(out=tmp_path), plan=False, next=False) == 0
    assert f"  repr/table4: {table('repr/table4').claim}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["repr/table9"], "unknown table 'repr/table9'"),
        (["repr/table4", "--rows", "99"], "repr/table4 has no row 99"),
        (["repr/table5"], "imagenet is not downloaded: it needs ImageNet .* --data imagenet=imagefolder:PATH"),
        (
            ["repr/table5", "--data", "voc:cells"],
            "voc:cells is data of the task detection, and rows on imagenet need",
        ),
        (["wau/table2", "--data", "digits"], "digits is data of the task classification, and rows on coco need"),
        (["repr/table6", "--data", "coco=coco:x"], "unknown set of --data 'coco'"),
        (["wau/table3", "--data", "voc:nowhere"], "voc:nowhere: there is no folder nowhere"),
        (["repr/table7", "--data", "coco:x,image_size=0"], "image_size of --data must be a whole number"),
        (["--rows", "3"], "--rows 3 needs a TABLE"),
        (["--data", "digits"], "--data digits needs a TABLE"),
        (["--scale", "0.5"], "--scale 0.5 needs a TABLE; without one all tables are listed"),
        (["--compile"], "--compile needs a TABLE"),
        (["--time-limit", "5m"], "--time-limit 5m needs a TABLE"),
        (["--next", "--plan"], "--next runs what is missing of all tables"),
        (["repr/table1", "--scale", "2"], r"scale must be a number in \(0, 1\], got '2'"),
        (["repr/table1", "--seeds", "0"], "seeds must be a whole number from 1 to 9999, got '0'"),
        (["repr/table1", "--data", "nothing"], "unknown data 'nothing'"),
        (["all", "--plan", "--rows", "3"], "rows must be given with one table, got '3'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["filtersmith", "reproduce", *arguments])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert re.search(said, error)
    assert error.count("\n") == 1


def test_a_ledger_that_cannot_be_read_is_refused_by_its_file(data: str, tmp_path: Path) -> None:
    (tmp_path / "ledger").mkdir()
    (tmp_path / "ledger" / "odd.json").write_text('{"schema": 7}')
    with pytest.raises(ValueError, match=r"odd\.json has schema 7"):
        reproduce("repr/table1", "1", typed(data, tmp_path), plan=False, next=False)


def test_rows_that_a_scale_makes_the_same_run_are_not_trained(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = typed(data, tmp_path, seeds="1", scale="0.01")
    assert reproduce("repr/fig5-right", "1,2", options, plan=False, next=False) == 0
    printed = capsys.readouterr().out
    assert "left out: repr/fig5-right 2: too short at scale 0.01 to be told from row 3, 4, 5" in printed
    assert "ours too short at this scale to be told from row 3, 4, 5" in printed
    assert [entry.spec["method"] for entry in ledger.load(tmp_path / "ledger")] == ["baseline"]


def test_a_ledger_that_cannot_be_written_is_said_before_anything_is_trained(data: str, tmp_path: Path) -> None:
    (tmp_path / "ledger").write_text("a file")
    with pytest.raises(ValueError, match="ledger"):
        reproduce("repr/table1", "1", typed(data, tmp_path, seeds="1", scale="0.01"), plan=False, next=False)
    assert not list((tmp_path / "runs").glob("*@*"))


def test_next_goes_past_rows_that_do_not_fit(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "QUEUE", 1)
    options = typed(data, tmp_path, seeds="1", scale="0.01")
    for _ in range(2):
        assert reproduce(None, None, options, plan=False, next=True) == 0
    assert "left out: repr@vanilla on few-digits" in capsys.readouterr().out.replace(data, "few-digits")
    assert sorted(entry.spec["network"] for entry in ledger.load(tmp_path / "ledger")) == ["cifar-quick", "vanilla"]
