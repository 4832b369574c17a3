"""A dry run says what the call would do, refuses what it would refuse, and leaves nothing."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from reference.running import StopAfter, config, digits, run
from rich.console import Console

from filtersmith.lab.compare import normalised, plan
from filtersmith.lab.data import with_limit
from filtersmith.lab.plan import show_comparison, show_run
from filtersmith.lab.recipe.config import CompareConfig
from filtersmith.lab.training.errors import Interrupted
from filtersmith.lab.training.locking import locked
from filtersmith.lab.training.stopping import StopRequest

WHAT = config("wau", batch_size=360)
MANY = normalised(CompareConfig(model=WHAT.model, train=WHAT.train, methods=("baseline", "wau"), seeds=(0,)))


def shown(show: Callable[..., None], *arguments: Any, **keywords: Any) -> list[str]:
    stream = io.StringIO()
    show(Console(file=stream, width=200), *arguments, **keywords)
    return stream.getvalue().splitlines()


def content(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (folder, *folder.rglob("*"))}


def test_of_a_run(tmp_path: Path) -> None:
    out = tmp_path / "run"
    before = content(tmp_path)
    lines = shown(show_run, WHAT, digits(), out, resume=False)
    assert content(tmp_path) == before
    assert lines[0] == "digits · vanilla-1-4 · 2 epochs · sgd 0.05, cosine"
    assert lines[1] == "1,437 training and 360 test images of 8x8, 10 classes, 4 steps per epoch"
    assert lines[-2:] == ["  wau, seed 0: to do", f"Nothing was trained. The run would stand in {out}."]
    with StopRequest() as stop, pytest.raises(Interrupted):
        run(WHAT, out, stop=stop, progress=StopAfter(stop, 5))
    before = content(tmp_path)
    lines = shown(show_run, WHAT, digits(), out, resume=True)
    assert "  wau, seed 0: begun, goes on from step-00000005" in lines
    with pytest.raises(ValueError, match="holds a run already: --resume auto"):
        shown(show_run, WHAT, digits(), out, resume=False)
    with locked(out), pytest.raises(ValueError, match=f"--out {out} is in use by process"):
        shown(show_run, WHAT, digits(), out, resume=True)
    with pytest.raises(ValueError, match="holds a run on other data: the train split has 1,437 images there and 720"):
        shown(show_run, WHAT, with_limit(digits(), 720), out, resume=True)
    with pytest.raises(ValueError, match=r"--out .*config.yaml/x cannot be written to: .*config.yaml is a file"):
        shown(show_run, WHAT, digits(), out / "config.yaml" / "x", resume=True)
    with pytest.raises(ValueError, match=r"layer 'features.0' .* d_mul must be at least its window"):
        shown(show_run, config("do-conv(4)"), digits(), tmp_path / "new", resume=True)
    assert content(tmp_path).keys() == before.keys()
    run(WHAT, out, resume=True)
    assert "  wau, seed 0: finished" in shown(show_run, WHAT, digits(), out, resume=True)
    (out / "model.safetensors").unlink()
    line = "  wau, seed 0: damaged (model.safetensors is missing), goes on from step-00000008"
    assert line in shown(show_run, WHAT, digits(), out, resume=True)


def test_of_a_comparison(tmp_path: Path) -> None:
    one = plan(MANY, tmp_path)[1]
    assert one.config == WHAT
    run(WHAT, one.folder.path)
    before = content(tmp_path)
    lines = shown(show_comparison, MANY, digits(), tmp_path)
    assert lines[-3:-1] == ["  baseline, seed 0: to do", "  wau, seed 0: finished"]
    assert content(tmp_path) == before
    with pytest.raises(ValueError, match="wau/seed-0 holds a run on other data: the train split has 1,437 images th"):
        shown(show_comparison, MANY, with_limit(digits(), 720), tmp_path)
    other = MANY.model_copy(update={"train": MANY.train.model_copy(update={"lr": 0.06})})
    with pytest.raises(ValueError, match=r"holds a run of another recipe: train\.lr is 0\.05 there and 0\.06 here"):
        shown(show_comparison, other, digits(), tmp_path)
    for folder in (tmp_path, one.folder.path):
        with locked(folder), pytest.raises(ValueError, match=f"{folder} is in use by"):
            shown(show_comparison, MANY, digits(), tmp_path)
    one.folder.model.unlink()
    checkpoint = one.folder.all_checkpoints()[-1]
    (checkpoint / "network.pt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"step-00000008 is damaged \(network.pt has 0 bytes where"):
        shown(show_comparison, MANY, digits(), tmp_path)
