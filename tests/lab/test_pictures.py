"""What the networks of a comparison say about test images: drawn once, kept beside the results, shown on the page."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from lab.tasks.vqa.small_set import lay_out
from reference.running import digits
from rich.console import Console

from filtersmith.lab import compare as comparing
from filtersmith.lab import pictures
from filtersmith.lab.recipe.config import CompareConfig, merge
from filtersmith.lab.results import shown
from filtersmith.lab.results.report import render
from filtersmith.lab.tasks.vqa.task import VQA
from filtersmith.lab.training.progress import Live
from filtersmith.lab.training.run import load_data

pytest.importorskip("PIL", reason="images need the extra filtersmith[vision]")


def compared(out: Path, task: str, data: str, methods: tuple[str, ...]) -> shown.Shown | None:
    """The pictures of the first method; ``None`` where there are none."""
    options = {"task": task, "data.name": data, "train.epochs": 1, "train.device": "cpu", "seeds": 1}
    what = comparing.normalised(merge(CompareConfig, options={**options, "methods": methods}))
    with Live(Console(file=io.StringIO(), width=80), 1) as live:
        found = comparing.compare(what, out, digits() if task == "classification" else load_data(what), live)
    every = shown.load(out)
    page = render([found], [every])
    assert all(one.alt in page for each in every for one in each.pictures)
    assert ("What the networks say" in page) is bool(every)
    return next(iter(every), None)


def test_questions_that_are_shown_with_their_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, out = f"vqa:{lay_out(tmp_path / 'set')}", tmp_path / "out"
    first = compared(out, "vqa", data, ("baseline",))
    assert first is not None
    assert (first.method, first.seed, len(first.pictures)) == ("baseline", 0, 4)
    assert first.pictures[0].caption.startswith("is it red? ")
    assert "COCO_val2014_000000000010.png" in first.pictures[0].alt
    answers = [line.split(",")[0] for line in first.pictures[0].csv.splitlines()[1:]]
    assert len(set(answers)) == 3
    assert set(answers) <= {"1", "2", "circle", "no", "square", "yes"}
    written = (out / shown.FILE_NAME).stat().st_mtime_ns
    drawn: list[object] = []
    draw = VQA.pictures
    monkeypatch.setattr(VQA, "pictures", lambda *all: drawn.append(all) or draw(*all), raising=False)
    assert compared(out, "vqa", data, ("baseline", "wau")) == first
    assert len(drawn) == 1, "those of the baseline are there"
    assert [one.method for one in shown.load(out)] == ["baseline", "wau"]
    assert (out / shown.FILE_NAME).stat().st_mtime_ns > written


def test_that_there_are_none_does_not_cost_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, out = f"vqa:{lay_out(tmp_path / 'set')}", tmp_path / "out"
    compared(out, "vqa", data, ("baseline",))
    monkeypatch.setattr(VQA, "pictures", lambda *all: 1 / 0, raising=False)
    (out / "runs" / "baseline" / "seed-0").rename(out / "runs" / "baseline" / "gone")
    assert compared(out, "vqa", data, ("baseline",)) is None
    assert not (out / shown.FILE_NAME).exists(), "those of before are of another run"
    assert (out / "results.json").exists()


def test_a_file_that_is_damaged_is_made_anew(tmp_path: Path) -> None:
    data, out = f"vqa:{lay_out(tmp_path / 'set')}", tmp_path / "out"
    compared(out, "vqa", data, ("baseline",))
    (out / shown.FILE_NAME).write_text("{")
    with pytest.raises(ValueError, match=r"pictures\.json is not a file of pictures: it is no JSON from line 1 on"):
        shown.load(out)
    assert compared(out, "vqa", data, ("baseline",)) is not None


def test_classes_of_images_have_no_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "load_network", None)  # nor is a network made for them
    assert compared(tmp_path, "classification", "digits", ("baseline",)) is None
    assert not (tmp_path / shown.FILE_NAME).exists()
