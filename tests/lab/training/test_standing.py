"""A folder is what its files say, all of them together; what contradicts itself is not gone on with in silence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from reference.running import assert_same, config, digits, manifest, measured, run, weights

from filtersmith.lab.data import with_limit
from filtersmith.lab.data.fingerprint import fingerprint
from filtersmith.lab.results.document import Run
from filtersmith.lab.training.folder import RunFolder
from filtersmith.lab.training.standing import Standing, admit, examine, one_data

WHAT = config("wau+ema(0.9)", batch_size=360)
DATA = fingerprint(digits())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    out = tmp_path_factory.mktemp("finished") / "run"
    return out, run(WHAT, out)


@pytest.fixture
def folder(finished: tuple[Path, Run], tmp_path: Path) -> RunFolder:
    return RunFolder(shutil.copytree(finished[0], tmp_path / "run"))


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-10])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def swap_lines(folder: RunFolder) -> None:
    folder.metrics.write_text("".join(reversed(folder.metrics.read_text().splitlines(keepends=True))))


DAMAGES: dict[str, tuple[Callable[[RunFolder], Any], str]] = {
    "no model": (lambda f: f.model.unlink(), "model.safetensors is missing"),
    "cut model": (lambda f: cut(f.model), r"model.safetensors has [\d,]+ bytes where it had "),
    "flipped model": (lambda f: flip(f.model), "model.safetensors has changed since it was written"),
    "no metrics": (lambda f: f.metrics.unlink(), "metrics.jsonl is missing"),
    "cut metrics": (lambda f: cut(f.metrics), r"metrics.jsonl has \d+ bytes where it had "),
    "edited metrics": (lambda f: flip(f.metrics), "metrics.jsonl has changed since it was written"),
    "epochs out of order": (swap_lines, "metrics.jsonl has changed since it was written"),
    "no manifest": (lambda f: f.manifest.unlink(), "manifest.json is missing"),
    "cut manifest": (lambda f: cut(f.manifest), "manifest.json cannot be read: "),
    "edited manifest": (
        lambda f: edit(f.manifest, '"seed": 0', '"seed": 1'),
        "manifest.json cannot be read: it has ch",
    ),
    "no JSON": (lambda f: f.manifest.write_text("[1]"), "manifest.json cannot be read: it holds no JSON object"),
    "no keys": (lambda f: f.manifest.write_text('{"status": "finished"}'), "manifest.json lacks what a result needs"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_made_anew_or_said_to_be(
    folder: RunFolder, finished: tuple[Path, Run], damage: str
) -> None:
    change, words = DAMAGES[damage]
    assert examine(folder).status == "finished"
    change(folder)
    standing = examine(folder)
    assert standing.status == "damaged"
    result = folder.result()
    assert result is None or result.status == ("finished" if "model" in damage else "interrupted")

    alone = RunFolder(shutil.copytree(folder.path, folder.path.with_name("alone")))
    shutil.rmtree(alone.checkpoints)
    with pytest.raises(
        ValueError, match=rf"^the run in {alone.path} is damaged \(.*{words}.*\) and has no checkpoint"
    ):
        run(WHAT, alone.path, resume=True)

    result = run(WHAT, folder.path, resume=True)
    assert measured(result) == measured(finished[1])
    assert_same(weights(folder.path), weights(finished[0]))
    assert examine(folder) == Standing("finished", checkpoint=folder.all_checkpoints()[-1])


def test_a_run_without_checkpoints_that_is_whole_is_finished(folder: RunFolder) -> None:
    shutil.rmtree(folder.checkpoints)
    assert admit(folder, WHAT, DATA, resume=True) == Standing("finished")


def test_runs_from_before_digests_are_read(folder: RunFolder) -> None:
    old = {key: value for key, value in manifest(folder.path).items() if key not in ("format", "files", "sha256")}
    old = {key: value for key, value in old.items() if key not in ("config", "data")}
    folder.manifest.write_text(json.dumps(old))
    assert admit(folder, WHAT, DATA, resume=True).status == "finished"
    one_data([folder], {})
    lines = folder.metrics.read_text()
    folder.metrics.write_text(lines.splitlines(keepends=True)[0])
    assert examine(folder).wrong == ("metrics.jsonl has 1 of 2 epochs",)
    folder.metrics.write_text(lines)
    cut(folder.model)
    assert examine(folder).wrong[0].startswith("model.safetensors cannot be read: ")


def test_other_data_are_refused(folder: RunFolder, finished: tuple[Path, Run]) -> None:
    other = fingerprint(with_limit(digits(), 1000))
    words = (
        r"run holds a run on other data: the train split has 1,437 images there and 1,000 here; choose another --out$"
    )
    for change in (lambda: None, folder.model.unlink, folder.manifest.unlink):
        change()
        with pytest.raises(ValueError, match=words):
            admit(folder, WHAT, other, resume=True)
        assert admit(folder, WHAT, DATA, resume=True)
    with pytest.raises(ValueError, match=words):
        one_data([RunFolder(finished[0])], other)


def test_an_edited_configuration_is_another_run(folder: RunFolder) -> None:
    edit(folder.config, "lr: 0.05", "lr: 0.06")
    assert examine(folder).wrong == ("config.yaml is of another recipe: train.lr is 0.05 there and 0.06 here",)
    for lr in (0.05, 0.06):
        with pytest.raises(ValueError, match=r"holds a run of another recipe: train\.lr is"):
            admit(folder, config("wau+ema(0.9)", batch_size=360, lr=lr), DATA, resume=True)


@pytest.mark.parametrize("name", ["config.yaml", "manifest.json", "metrics.jsonl", "model.safetensors"])
def test_a_folder_in_the_place_of_a_file_is_refused_before_all_the_training(tmp_path: Path, name: str) -> None:
    (tmp_path / name / "inside").mkdir(parents=True)
    with pytest.raises(ValueError, match=rf"{name} is a folder, .*: remove it, or choose another --out$"):
        run(WHAT, tmp_path, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == [name]
