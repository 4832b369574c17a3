"""The model card: its script runs, its metadata are what the hub reads, its figures are those of the run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab.tasks.vqa.small_set import lay_out
from reference.running import command, config, run

from filtersmith.lab.hub.write import export_folder
from filtersmith.lab.recipe.config import RunConfig, check, merge, read_recipe
from filtersmith.lab.training.folder import RunFolder
from filtersmith.lab.training.run import load_data, train


def card_of(trained: Path) -> tuple[dict[str, Any], str, Path]:
    """Metadata, text and folder."""
    folder = export_folder(trained).path
    _, head, text = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(head), text, folder


def used(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    (script,) = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    names: dict[str, Any] = {}
    monkeypatch.chdir(folder)
    exec(compile(script, "README.md", "exec"), names)
    return names


def test_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = tmp_path / "run"
    last = run(config("wau+ema", epochs=2), trained).epochs[-1]
    head, text, folder = card_of(trained)
    assert (head["license"], head["pipeline_tag"]) == ("unknown", "image-classification")
    assert head["tags"] == ["filtersmith", "wau", "ema"]
    (metric,) = head["model-index"][0]["results"][0]["metrics"]
    assert metric["value"] == last.test_accuracy
    assert used(text, folder, monkeypatch)["logits"].shape == (1, 10)
    assert f"| Test accuracy after the last epoch | {100 * last.test_accuracy:.2f} |" in text
    assert "One seed was trained: no interval can be given" in text
    assert "which the test set chose" in text
    assert "| Schedule | 2 epochs, sgd 0.05, cosine |" in text
    assert "| Licence | CC BY 4.0" in text
    (recipe,) = re.findall(r"```yaml\n(.*?)```", text, re.S)
    (tmp_path / "recipe.yaml").write_text(recipe)
    assert check(RunConfig, read_recipe(str(tmp_path / "recipe.yaml"))) == RunFolder(trained).read_config()


def test_the_interval_is_that_of_the_comparison(tmp_path: Path) -> None:
    out = tmp_path / "compared"
    small = ["--data", "digits", "--model", "vanilla-1-4", "--epochs", "1", "--set", "data.limit=100"]
    with pytest.raises(SystemExit, match="0"):
        command("compare", *small, "--methods", "baseline,wau", "--seeds", "3", "--out", str(out))
    _, text, _ = card_of(next(out.glob("runs/wau*/seed-1")))
    assert "which has 3 seeds of this row: 0, 1, 2." in text
    assert re.search(r"Against plain training with the same seeds: .* \(p .*3 pairs", text)
    assert "| `baseline` |" in text
    _, text, _ = card_of(next(out.glob("runs/baseline/seed-0")))
    assert "Trained plainly, with no method." in text
    assert "Against plain training" not in text


def test_a_users_own_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = "nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))"
    code = f"from torch import nn\ndef make(num_classes):\n    return {made}"
    (tmp_path / "own_net.py").write_text(code)
    trained = tmp_path / "run"
    run(config(model=f"{tmp_path}/own_net.py:make", epochs=1), trained)
    _, text, folder = card_of(trained)
    assert "(`own_net.py`): it has to be at hand." in text
    assert str(tmp_path) not in "".join(file.read_text("latin1") for file in folder.iterdir())
    (tmp_path / "own_net.py").rename(folder / "own_net.py")
    assert used(text, folder, monkeypatch)["logits"].shape == (1, 10)


def test_rows_of_a_table_say_nothing_of_this_machine(tmp_path: Path) -> None:
    run(config(epochs=1), tmp_path / "teacher")
    small = ["--data", "digits", "--model", "vanilla-1-4", "--epochs", "1", "--set", "data.limit=100"]
    methods = f"baseline,kd(teacher='{tmp_path}/teacher')"
    with pytest.raises(SystemExit, match="0"):
        command("compare", *small, "--methods", methods, "--seeds", "1", "--out", str(tmp_path / "compared"))
    _, text, folder = card_of(next((tmp_path / "compared").glob("runs/kd*/seed-0")))
    assert "| `kd(teacher='')` |" in text
    assert "once the teacher is filled in" in text
    assert str(tmp_path) not in "".join(file.read_text("latin1") for file in folder.iterdir())


def test_another_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"task": "vqa", "data.name": f"vqa:{lay_out(tmp_path / 'questions')}", "train.epochs": 1}
    what = merge(RunConfig, options={**options, "train.device": "cpu", "train.workers": 0})
    train(what, tmp_path / "run", load_data(what), resume=False)
    head, text, folder = card_of(tmp_path / "run")
    assert head["pipeline_tag"] == "visual-question-answering"
    assert "| yes/no |" in text
    assert used(text, folder, monkeypatch)["loaded"].task == "vqa"
    assert str(tmp_path) not in text
