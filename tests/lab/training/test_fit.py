"""A run to its end, or to what stopped it: a full disk, weights that are no numbers; and what is there then."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.running import assert_same, config, manifest, measured, run, weights

from filtersmith.lab.training import checkpoint
from filtersmith.lab.training.errors import RunFailed
from filtersmith.lab.training.folder import RunFolder
from filtersmith.lab.training.session import Session


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    what = config("wau", batch_size=360)
    whole = run(what, tmp_path / "whole")
    write, written = checkpoint._write, []

    def full(file: Path, content: bytes) -> None:
        written.append(file.name)
        if len(written) > 10:  # in the second checkpoint
            file.write_bytes(content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        write(file, content)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_write", full)
        with pytest.raises(RunFailed, match=r"^no checkpoint can be written in .*checkpoints \(No space left on dev"):
            run(what, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    assert [path.name for path in folder.checkpoints.iterdir()] == ["step-00000004"]
    assert manifest(folder.path)["status"] == "failed"
    again = run(what, folder.path, resume=True)
    assert measured(again) == measured(whole)
    assert_same(weights(folder.path), weights(tmp_path / "whole"))


@pytest.mark.parametrize("where", ["weight", "buffer"])
def test_weights_that_are_not_finite_after_the_last_step_are_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """The loss of the last step was finite yet."""
    train, finish = Session._train_batch, Session.finish_epoch

    def broken(self: Session, *arguments: object) -> object:
        done = train(self, *arguments)  # type: ignore[arg-type]
        if where == "weight" and self.position.step == 7:
            with torch.no_grad():
                next(self.model.parameters()).fill_(float("nan"))
        return done

    def spoilt(self: Session) -> object:
        epoch = finish(self)
        if where == "buffer" and self.position.epoch == 2:
            next(b for b in self.model.buffers() if b.is_floating_point()).fill_(float("inf"))
        return epoch

    monkeypatch.setattr(Session, "_train_batch", broken)
    monkeypatch.setattr(Session, "finish_epoch", spoilt)
    words = {
        "weight": r"^loss on the test images is nan after epoch 2 \(train.lr=0.05\): a smaller train.lr or",
        "buffer": r"^features.1.running_mean of the deployed network is not finite after the last epoch \(train.lr",
    }[where]
    with pytest.raises(RunFailed, match=words):
        run(config(batch_size=360), tmp_path)
    assert manifest(tmp_path)["status"] == "failed"
    assert not (tmp_path / "model.safetensors").exists()


def facts(out: Path) -> dict[str, Any]:
    """The manifest without the digests: safetensors writes its metadata in any order."""
    return {name: value for name, value in manifest(out).items() if name not in ("files", "sha256")}


def test_a_rebuilt_run_says_what_it_was_trained_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    what = config(epochs=1, batch_size=360)
    run(what, tmp_path)
    before = facts(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    monkeypatch.setattr("filtersmith.lab.training.fit.environment", lambda device: {"torch": "another"})
    run(what, tmp_path, resume=True)
    assert facts(tmp_path) == before
