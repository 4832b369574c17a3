"""A network back from its file alone, and the documentation's script that does it for every task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lab.tasks.detection import small_detector, small_sets
from lab.tasks.vqa.small_set import lay_out
from reference.running import assert_same, config, run, weights
from safetensors.torch import save_file
from test_docs import ROOT, blocks

from filtersmith.lab.export import export
from filtersmith.lab.exported import load
from filtersmith.lab.recipe.config import RunConfig, merge
from filtersmith.lab.training.run import load_data, train

PAGE = ROOT / "docs" / "exported-files.md"


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    small_detector.use(monkeypatch.setattr)


def one_epoch(task: str, data: str, out: Path, **more: Any) -> Path:
    options = {"task": task, "data.name": data, "train.epochs": 1, "train.warmup_epochs": 0}
    options |= {"train.device": "cpu", "train.workers": 0}
    what = merge(RunConfig, options={**options, **more})
    train(what, out, load_data(what), resume=False)
    return out


def test_a_network_with_tied_kernels_comes_back(tmp_path: Path) -> None:
    run(config("dacnn+regulators", model="vanilla-5-16", epochs=1), tmp_path / "run")
    found = load(export(tmp_path / "run", "safetensors").path)
    assert (found.task, found.facts["num_classes"], found.network.training) == ("classification", 10, False)
    state = found.network.state_dict()
    assert_same({name: state[name] for name in weights(tmp_path / "run")}, weights(tmp_path / "run"))


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    known = dict.fromkeys(("task", "model", "method", "data"), "resnet20")
    odd = {**known, "small_images": "false", "seed": "0", "facts": '["x"]'}
    save_file({"a": torch.zeros(1)}, tmp_path / "odd.safetensors", odd)
    for name, said in (
        ("none", "cannot be read as a safetensors file"),
        ("text", "cannot be read as a safetensors file"),
        ("other.safetensors", "was not written by this version's `filtersmith export`: it has no task"),
        ("odd.safetensors", "what the file says of its data cannot be read"),
    ):
        with pytest.raises(ValueError, match=said):
            load(tmp_path / name)


def test_code_that_a_file_names_is_not_run_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_net.py").write_text(
        "from torch import nn\nmake = lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10))"
    )
    monkeypatch.chdir(tmp_path)
    run(config(model="a_net.py:make", epochs=1), tmp_path / "run")
    file = export(tmp_path / "run", "safetensors").path
    with pytest.raises(ValueError, match=r"names a network of a user's own code, a_net.py:make, which is not run"):
        load(file)
    assert_same(load(file, own_code=True).network.state_dict(), weights(tmp_path / "run"))


@pytest.mark.usefixtures("_small")
def test_the_documentations_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for library in ("torchvision", "torchmetrics", "faster_coco_eval", "onnxruntime", "onnxscript"):
        pytest.importorskip(library)
    boxes = small_sets.voc(tmp_path / "boxes", {"train": ["a"], "val": ["c"]})
    run(config(model="vanilla-1-4", epochs=1), tmp_path / "classifier")
    one_epoch("detection", f"voc:{boxes}", tmp_path / "detector", **{"data.image_size": 64, "method": "dacnn"})
    one_epoch("vqa", f"vqa:{lay_out(tmp_path / 'questions')}", tmp_path / "answering")
    for name in ("classifier", "detector", "answering"):
        export(tmp_path / name, "safetensors", tmp_path / f"{name}.safetensors")
    export(tmp_path / "detector", "onnx", tmp_path / "detector.onnx")
    (script,) = blocks(PAGE, "python")
    monkeypatch.chdir(tmp_path)
    exec(compile(script, PAGE.name, "exec"), {})
    assert capsys.readouterr().out.splitlines()[-1] in ("1", "2", "circle", "no", "square", "yes")
