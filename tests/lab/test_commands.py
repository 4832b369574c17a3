"""What the commands do, called as functions; how they are spelled and how they end is tested in test_cli."""

from __future__ import annotations

from pathlib import Path

import pytest

from filtersmith.lab import commands
from filtersmith.lab.recipe.config import CompareConfig, RunConfig, merge


def test_several_processes_compare_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="one process; `filtersmith train`"):
        commands.compare(CompareConfig(), tmp_path, commands.Means(), dry_run=True)


def test_one_process_of_several_speaks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = merge(RunConfig, options={"model.name": "vanilla-1-4", "train.epochs": 1, "train.batch_size": 512})
    monkeypatch.setenv("RANK", "1")
    assert commands.train(config, tmp_path / "run", resume=False, deadline=None, dry_run=False) == commands.DONE
    assert capsys.readouterr().out == ""
    monkeypatch.delenv("RANK")
    assert commands.train(config, tmp_path / "run", resume=True, deadline=None, dry_run=False) == commands.DONE
    assert capsys.readouterr().out.splitlines()[-1] == f"Deployed network: {tmp_path}/run/model.safetensors"
