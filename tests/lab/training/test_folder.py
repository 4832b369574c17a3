"""The folder of a run: complete or absent, and readable after a kill."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from reference.running import config

from filtersmith.lab.results.document import Epoch
from filtersmith.lab.training.folder import RunFolder, check_writable, make_folder


def epoch(number: int) -> Epoch:
    values = {"lr": 0.1, "train_loss": 1.0, "train_accuracy": 0.5, "test_loss": 1.0, "test_accuracy": 0.5}
    return Epoch(epoch=number, train_seconds=1.0, **values)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "a" / "run")
    folder.create(config())
    return folder


def test_a_new_run(folder: RunFolder, tmp_path: Path) -> None:
    assert folder.exists()
    assert not RunFolder(tmp_path).exists()
    assert folder.read_config() == config()
    assert folder.read_manifest() == {}
    assert folder.read_metrics() == []
    assert folder.all_checkpoints() == []
    assert folder.result() is None
    assert not folder.finished()
    assert not [path for path in folder.path.iterdir() if "tmp" in path.name or "write-test" in path.name]


def test_another_recipe_is_refused_by_name(folder: RunFolder) -> None:
    folder.check_same(config(tensorboard=True, device="auto", workers=0))
    with pytest.raises(ValueError, match=r"run holds a run of another recipe: train.lr is 0.05 there and 0.1 here"):
        folder.check_same(config(lr=0.1))
    with pytest.raises(ValueError, match="method is 'baseline' there and 'wau' here"):
        folder.check_same(config("wau"))


def test_a_manifest_becomes_a_result(folder: RunFolder) -> None:
    folder.append_metrics(epoch(1))
    manifest = {"method": "wau", "seed": 3, "parameters_training": 5, "phase_starts": [1]}
    folder.write_manifest({"status": "running", **manifest})  # as a killed run leaves it
    result = folder.result()
    assert result is not None
    assert (result.method, result.seed, result.status, result.phase_starts) == ("wau", 3, "interrupted", (1,))
    assert result.parameters_training == 5
    assert len(result.epochs) == 1
    folder.write_manifest({"status": "failed", "error": "why", **manifest})
    result = folder.result()
    assert result is not None
    assert (result.status, result.error) == ("failed", "why")
    folder.write_manifest({"status": "finished", **manifest})
    assert folder.finished()


def test_metrics_cut_off_by_a_kill(folder: RunFolder) -> None:
    for number in (1, 2, 3):
        folder.append_metrics(epoch(number))
    text = folder.metrics.read_text()
    for length in range(len(text)):
        folder.metrics.write_text(text[:length])
        assert folder.read_metrics() == [epoch(number + 1) for number in range(text[:length].count("\n"))]
    folder.write_metrics([epoch(1)])
    assert folder.read_metrics() == [epoch(1)]


def test_a_damaged_manifest_is_named(folder: RunFolder) -> None:
    folder.manifest.write_text("{")
    with pytest.raises(ValueError, match=r"manifest.json cannot be read"):
        folder.read_manifest()


def test_a_manifest_that_was_edited_is_none(folder: RunFolder) -> None:
    folder.append_metrics(epoch(1))
    folder.write_manifest({"status": "finished", "method": "wau", "seed": 3})
    assert folder.read_manifest()["seed"] == 3
    text = folder.manifest.read_text()
    folder.manifest.write_text(text.replace('"seed": 3', '"seed": 4'))
    with pytest.raises(ValueError, match=r"manifest.json cannot be read: it has changed since it was written"):
        folder.read_manifest()
    assert (folder.manifest_or_nothing(), folder.result(), folder.finished()) == ({}, None, False)
    folder.manifest.write_text('{"status": "finished", "method": "wau", "seed": 3}')  # of a version before
    assert folder.finished()
    folder.manifest.write_text('{"status": "finished", "method": "wau", "seed": "x"}')
    assert folder.result() is None


def test_lines_that_are_none_end_the_metrics(folder: RunFolder) -> None:
    lines = [epoch(number).model_dump_json() for number in (1, 2, 3)]
    for wrong in (lines[1][:20], "", "[]", lines[0], lines[2], "\xff"):
        folder.metrics.write_text(f"{lines[0]}\n{wrong}\n{lines[1]}\n", encoding="latin-1")
        assert folder.read_metrics() == [epoch(1)]


def test_checkpoints_appear_whole_and_the_newest_two_stay(folder: RunFolder) -> None:
    for step in (9, 10, 200):
        partial = folder.new_checkpoint()
        (partial / "state").write_text(str(step))
        before = folder.all_checkpoints()
        assert partial not in before  # not one before it is published
        folder.publish(partial, step)
        assert folder.all_checkpoints()[-1].name == f"step-{step:08d}"
    assert [path.name for path in folder.all_checkpoints()] == ["step-00000010", "step-00000200"]
    assert [(path / "state").read_text() for path in folder.all_checkpoints()] == ["10", "200"]


def test_what_a_kill_left_is_swept_away(folder: RunFolder) -> None:
    for name in (".partial", ".old-step-00000001"):
        (folder.checkpoints / name).mkdir()
        (folder.checkpoints / name / "half").touch()
    assert folder.all_checkpoints() == []
    partial = folder.new_checkpoint()
    assert list(partial.iterdir()) == []
    folder.publish(partial, 1)
    assert [path.name for path in folder.checkpoints.iterdir()] == ["step-00000001"]


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for make in (make_folder, check_writable):
        with pytest.raises(
            ValueError, match=r"^--out .*file/run cannot be written to: .*file is a file, and a folder is needed"
        ):
            make(tmp_path / "file" / "run")
        with pytest.raises(
            ValueError, match=r"^--out .*file cannot be written to: it is a file, and a folder is needed"
        ):
            make(tmp_path / "file")
    check_writable(tmp_path / "new" / "one")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(stat.S_IREAD | stat.S_IEXEC)
    try:
        (locked / "probe").touch()
    except OSError:
        for make in (make_folder, check_writable):
            with pytest.raises(ValueError, match="Permission denied"):
                make(locked)
    make_folder(tmp_path / "new" / "one")
    assert list((tmp_path / "new" / "one").iterdir()) == []
