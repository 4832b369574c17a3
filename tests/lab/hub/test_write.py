"""The folder for the hub: whole or not at all, never over what somebody has written."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from reference.running import assert_same, command, config, run, weights
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from test_docs import ROOT, blocks

from filtersmith.lab.exported import load
from filtersmith.lab.hub.write import FILES, export_folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "run"
    run(config("wau", epochs=1), out)
    return out


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_three_files(folder: Path, tmp_path: Path) -> None:
    done = export_folder(folder)
    assert done.path == folder / "hub"
    assert {file.name for file in done.path.iterdir()} == set(FILES)
    assert done.size == sum(file.stat().st_size for file in done.path.iterdir())
    assert not list(folder.glob(".hub*")), "nothing is left of the work"
    about = json.loads((done.path / "config.json").read_text())
    with safe_open(str(done.path / "model.safetensors"), "pt") as opened:
        assert {"format": "pt"}.items() <= opened.metadata().items(), "transformers and timm ask for it"
    assert [about[name] for name in ("task", "model", "method", "seed")] == [
        "classification",
        "vanilla-1-4",
        "wau",
        0,
    ]
    assert len(about["label_names"]) == about["facts"]["num_classes"] == 10
    assert str(tmp_path) not in "".join(file.read_text("latin1") for file in done.path.iterdir())
    assert load(done.path).facts == about["facts"], "the laboratory takes the folder, too"


def test_only_what_is_the_same_is_written_over(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "hub"
    out.mkdir()
    (out / ".gitattributes").write_text("mine")
    for _ in range(3):  # safetensors writes its metadata in another order each time
        export_folder(folder, out)
    assert (out / ".gitattributes").read_text() == "mine"
    (out / "config.json").write_text("{}")
    export_folder(folder, out)
    assert json.loads((out / "config.json").read_text())["seed"] == 0, "the card is as it was made"
    (out / "README.md").write_text("my card")
    (out / "config.json").unlink()
    with pytest.raises(ValueError, match=r"--out must be a folder without another README.md, which would be lost"):
        export_folder(folder, out)
    assert (out / "README.md").read_text() == "my card"
    assert not (out / "config.json").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"run", "hub"}


def test_other_weights_are_not_lost(folder: Path) -> None:
    out = export_folder(folder).path
    (out / "README.md").write_text((out / "README.md").read_text().replace("unknown", "mit"))
    (out / "README.md").rename(out / "mine.md")
    file = out / "model.safetensors"
    with safe_open(str(file), "pt") as opened:
        about = opened.metadata()
    for other in ({name: tensor + 1 for name, tensor in load_file(str(file)).items()}, {}):
        save_file(other, str(file), about)
        with pytest.raises(ValueError, match=r"without another model.safetensors"):
            export_folder(folder)
    file.write_text("text")
    with pytest.raises(ValueError, match=r"without another model.safetensors"):
        export_folder(folder)


def test_the_documentations_script(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = ROOT / "docs" / "hub.md"
    (script,), (typed, *_) = blocks(page, "python"), blocks(page, "bash")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="0"):
        command(*shlex.split(typed.replace("runs/one", str(folder)))[1:])
    names: dict[str, Any] = {}
    exec(compile(script, page.name, "exec"), names)
    assert_same(names["network"].state_dict(), weights(folder))


def test_a_link_to_another_disk(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    export_folder(folder, tmp_path / "link")
    assert {file.name for file in (tmp_path / "elsewhere").iterdir()} == set(FILES)


def test_what_is_no_place_for_it(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="--out must be a folder, not a file"):
        export_folder(folder, tmp_path / "file")
    with pytest.raises(ValueError, match="--out must be another folder than that of the run"):
        export_folder(folder, folder)
    with pytest.raises(ValueError, match="is not the folder of a run"):
        export_folder(tmp_path / "none")
