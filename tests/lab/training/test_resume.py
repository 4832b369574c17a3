"""Stopped, killed, damaged: a run that goes on ends as if nothing had happened, bit for bit."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from reference.running import (
    StopAfter,
    assert_same,
    command,
    config,
    ended,
    fork,
    manifest,
    measured,
    run,
    weights,
)
from torch import nn

from filtersmith import zoo
from filtersmith.lab.recipe.config import RunConfig, check, read_recipe
from filtersmith.lab.results.document import Run
from filtersmith.lab.training import checkpoint as checkpoints
from filtersmith.lab.training import run as train
from filtersmith.lab.training.errors import Interrupted
from filtersmith.lab.training.folder import RunFolder
from filtersmith.lab.training.progress import Live
from filtersmith.lab.training.stopping import StopRequest

ASA = config("asa", model="vanilla-2-8", epochs=3)
fewer = partial(config, batch_size=128)
"""Epochs of 12 steps."""


def assert_readable(out: Path) -> None:
    """What everybody may do with the folder of a run at any moment."""
    folder = RunFolder(out)
    folder.read_manifest()
    folder.read_metrics()
    folder.result()
    if folder.exists():
        folder.read_config()
    for checkpoint in folder.all_checkpoints():
        checkpoints.check(checkpoint)
        check(RunConfig, read_recipe(str(checkpoint / "config.yaml")))
        for file in checkpoint.glob("*.pt"):
            torch.load(file, weights_only=True)


def assert_equal_runs(left: Run, right: Run, left_out: Path, right_out: Path) -> None:
    assert_same(weights(left_out), weights(right_out))
    assert len(left.epochs) == len(right.epochs)
    for one, other in zip(measured(left), measured(right), strict=True):
        assert one == pytest.approx(other, rel=1e-12)  # a loss that is summed in two parts
    assert RunFolder(right_out).finished()


def stop_and_go_on(what: RunConfig, out: Path, every: int) -> Run:
    """Stopped after every so many batches until it is finished."""
    for _ in range(100):
        with StopRequest() as stop:
            try:
                return run(what, out, resume=True, stop=stop, progress=StopAfter(stop, every))
            except Interrupted:
                assert manifest(out)["status"] == "interrupted"
    raise AssertionError("does not end")


@pytest.mark.parametrize(
    ("what", "every"),
    [
        (fewer(), 5),
        (fewer(), 12),  # at the end of an epoch
        (fewer("asa", epochs=3), 9),
        (fewer("wau+ema(0.9)", optimizer="adam", lr=0.01), 8),
        (fewer("conv-lr(0.5)", precision="bf16", warmup_epochs=0.5), 8),
        (fewer("wau(draw=bernoulli)", optimizer="adagrad", label_smoothing=0.1), 8),
        (fewer("kflo(3,1.5)+ema(0.9)"), 8),
        (fewer("dbb"), 8),
        (fewer("repr(s1=1,s2=1,cycles=1)+ortho-loss", model="vanilla-2-4", epochs=3, schedule="constant"), 17),
        (fewer("dsd(s1=1,s2=1,cycles=1)", epochs=3, optimizer="adam", lr=0.01), 17),
    ],
    ids=["baseline", "epoch-end", "asa", "adam-ema", "bf16-warmup", "adagrad", "kflo-ema", "dbb", "repr", "dsd"],
)
def test_stopped_in_the_middle_and_resumed(tmp_path: Path, what: RunConfig, every: int) -> None:
    whole = run(what, tmp_path / "whole")
    parts = stop_and_go_on(what, tmp_path / "parts", every)
    assert_equal_runs(whole, parts, tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize(
    "method",
    ["asa", "repr(s1=1,s2=1,cycles=1)", "dsd(s1=1,s2=1,cycles=1)", "prune(after=1)"],
)
def test_stopped_twice_in_every_phase_and_resumed_each_time(tmp_path: Path, method: str) -> None:
    """Twelve steps in three epochs, which are the phases; a stop after 5 and after 10, and one after 7."""
    what = config(method, model="vanilla-2-4", epochs=3, batch_size=360, schedule="constant")
    whole = run(what, tmp_path / "whole")
    for every in (5, 7):
        parts = stop_and_go_on(what, tmp_path / str(every), every)
        assert_equal_runs(whole, parts, tmp_path / "whole", tmp_path / str(every))


def test_random_states_are_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*_: Any, **__: Any) -> nn.Module:
        layers = nn.Conv2d(1, 4, 3), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 10)
        return nn.Sequential(*layers)

    monkeypatch.setattr(zoo, "build", build)
    whole = run(config(), tmp_path / "whole")
    parts = stop_and_go_on(config(), tmp_path / "parts", 15)
    assert_equal_runs(whole, parts, tmp_path / "whole", tmp_path / "parts")


def test_a_signal_during_the_last_epoch_lets_the_run_finish(tmp_path: Path) -> None:
    with StopRequest() as stop:
        result = run(config(epochs=1), tmp_path, stop=stop, progress=StopAfter(stop, 23))
    assert result.status == "finished"


def test_a_second_signal_acts_as_ever() -> None:
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.signal == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# In processes of their own


def train_here(what: RunConfig, out: Path) -> None:
    run(what, out, resume=True)


def killed_at(operation: int, what: RunConfig, out: Path) -> None:
    """Trains on, and kills itself at this operation on files: half of them before, half of them after it."""
    count = 0

    def dangerous(work: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **keywords: Any) -> Any:
            nonlocal count
            count += 1
            if count == operation and count % 2:
                os.kill(os.getpid(), signal.SIGKILL)
            result = work(*arguments, **keywords)
            if count == operation:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return wrapped

    def half_written(file: Path, content: bytes) -> None:
        nonlocal count
        count += 1
        write(file, content)
        if count == operation:
            os.truncate(file, len(content) // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    write = checkpoints._write
    checkpoints._write = half_written
    os.replace = dangerous(os.replace)  # everything that appears whole
    shutil.rmtree = dangerous(shutil.rmtree)
    RunFolder.append_metrics = dangerous(RunFolder.append_metrics)  # type: ignore[method-assign]
    run(what, out, resume=True)


@pytest.mark.long
def test_killed_at_every_operation_on_files(tmp_path: Path) -> None:
    what = config("asa", epochs=2)
    whole = run(what, tmp_path / "whole")
    codes = []
    for operation in range(1, 80):
        codes.append(ended(fork(killed_at, operation, what, tmp_path / "killed")))
        assert_readable(tmp_path / "killed")
        if codes[-1] == 0:
            break
        assert codes[-1] == -signal.SIGKILL
    assert len(codes) > 10
    assert codes[-1] == 0
    result = run(what, tmp_path / "killed", resume=True)
    assert_equal_runs(whole, result, tmp_path / "whole", tmp_path / "killed")
    assert len(list((tmp_path / "killed" / "checkpoints").iterdir())) == 2  # nothing half-done lies around


@pytest.mark.long
@pytest.mark.parametrize("what", [config(model="vanilla-2-8", epochs=3), ASA], ids=["baseline", "asa"])
def test_killed_at_random_moments(tmp_path: Path, what: RunConfig) -> None:
    assert ended(fork(time.sleep, 0)) == 0  # starts the server, which takes seconds
    begun = time.monotonic()
    assert ended(fork(train_here, what, tmp_path / "whole")) == 0
    length = time.monotonic() - begun

    def check() -> None:
        whole, result = (run(what, tmp_path / name, resume=True) for name in ("whole", "killed"))
        assert_equal_runs(whole, result, tmp_path / "whole", tmp_path / "killed")
        shutil.rmtree(tmp_path / "killed")

    moments, kills = random.Random(what.method), 0
    while kills < 4:
        process = fork(train_here, what, tmp_path / "killed")
        process.join(moments.uniform(0.1, 1.0) * length)
        process.kill()
        code = ended(process)
        assert_readable(tmp_path / "killed")
        assert code in (0, -signal.SIGKILL)
        if code == 0:
            check()
        kills += code != 0
    check()


def signalled(number: int, *arguments: str) -> None:
    """The command line, which gets a signal in the middle of the second epoch."""

    def batch(self: Live, done: int, batches: int) -> None:
        if self._current is not None and self._current._finished == 1 and done == 7:
            os.kill(os.getpid(), number)

    Live.batch = batch  # type: ignore[method-assign]
    command(*arguments)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_write_a_checkpoint(tmp_path: Path, number: int, code: int) -> None:
    options = ["train", "--model", "vanilla-1-4", "--method", "asa", "--epochs", "3", "--resume", "auto"]
    options += ["--out", str(tmp_path / "run")]
    assert ended(fork(signalled, number, *options)) == code
    assert manifest(tmp_path / "run")["status"] == "interrupted"
    assert RunFolder(tmp_path / "run").all_checkpoints()[-1].name == f"step-{12 + 7:08d}"
    assert ended(fork(command, *options)) == 0
    whole = run(RunFolder(tmp_path / "run").read_config(), tmp_path / "whole")
    result = run(RunFolder(tmp_path / "run").read_config(), tmp_path / "run", resume=True)
    assert_equal_runs(whole, result, tmp_path / "whole", tmp_path / "run")


# What may lie in the folder


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run, Path]:
    """A run stopped in its second epoch; and a whole one with its result."""
    base = tmp_path_factory.mktemp("interrupted")
    whole = run(ASA, base / "whole")
    with StopRequest() as stop, pytest.raises(Interrupted, match=r"^stopped after epoch 2 of 3, batch 7$"):
        run(ASA, base / "part", stop=stop, progress=StopAfter(stop, 30))
    assert (base / "part" / "metrics.jsonl").read_text().count("\n") == 1
    return base / "part", whole, base / "whole"


def damage_nothing(out: Path) -> None: ...


def half_a_checkpoint(out: Path) -> None:
    shutil.copytree(RunFolder(out).all_checkpoints()[0], out / "checkpoints" / ".partial")
    (out / "checkpoints" / ".partial" / "optimizer.pt").write_bytes(b"half")


def half_a_line(out: Path) -> None:
    with (out / "metrics.jsonl").open("a") as stream:
        stream.write('{"epoch": 2, "lr":')


def a_line_too_many(out: Path) -> None:
    """Logged after the checkpoint that the run goes on from."""
    lines = (out / "metrics.jsonl").read_text()
    (out / "metrics.jsonl").write_text(lines + lines.replace('"epoch":1', '"epoch":2'))


def no_manifest(out: Path) -> None:
    (out / "manifest.json").unlink()


def no_metrics(out: Path) -> None:
    (out / "metrics.jsonl").unlink()


def no_checkpoints(out: Path) -> None:
    shutil.rmtree(out / "checkpoints")


@pytest.mark.parametrize(
    "damage",
    [
        damage_nothing,
        half_a_checkpoint,
        half_a_line,
        a_line_too_many,
        no_manifest,
        no_metrics,
        no_checkpoints,
    ],
)
def test_what_a_kill_may_leave(
    tmp_path: Path, interrupted: tuple[Path, Run, Path], damage: Callable[[Path], None]
) -> None:
    part, whole, whole_out = interrupted
    shutil.copytree(part, tmp_path / "run")
    damage(tmp_path / "run")
    assert RunFolder(tmp_path / "run").read_config() == ASA
    RunFolder(tmp_path / "run").result()
    result = run(ASA, tmp_path / "run", resume=True)
    assert_equal_runs(whole, result, whole_out, tmp_path / "run")


def test_a_damaged_checkpoint_is_named(tmp_path: Path, interrupted: tuple[Path, Run, Path]) -> None:
    part, whole, whole_out = interrupted
    shutil.copytree(part, tmp_path / "run")
    older, newest = RunFolder(tmp_path / "run").all_checkpoints()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()}
    for file in sorted(newest.iterdir()):
        content = file.read_bytes()
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]
        for rest in (b"", content[:middle], flipped, content + b" ", None):
            file.unlink() if rest is None else file.write_bytes(rest)
            with pytest.raises(ValueError, match=rf"{newest} is damaged \({file.name} .*to go on from {older.name}$"):
                run(ASA, tmp_path / "run", resume=True)
        file.write_bytes(content)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()} == before
    renamed = newest.rename(newest.with_name("step-00000031"))
    with pytest.raises(ValueError, match=rf"{renamed} is damaged \(it was written as {newest.name}, and must have"):
        run(ASA, tmp_path / "run", resume=True)
    shutil.rmtree(renamed)
    result = run(ASA, tmp_path / "run", resume=True)
    assert_equal_runs(whole, result, whole_out, tmp_path / "run")


def test_a_finished_run_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(config(), tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    monkeypatch.setattr(train, "Session", partial(pytest.fail, "was trained again"))
    assert run(config(tensorboard=True), tmp_path, resume=True) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_resuming_is_refused(tmp_path: Path) -> None:
    run(config(epochs=1), tmp_path)
    before = (tmp_path / "config.yaml").read_text()
    with pytest.raises(ValueError, match=r"holds a run of another recipe: train.lr is 0.05 there and 0.1 here"):
        run(config(epochs=1, lr=0.1), tmp_path, resume=True)
    with pytest.raises(ValueError, match="holds a run already: --resume auto goes on with it"):
        run(config(epochs=1), tmp_path, resume=False)
    assert (tmp_path / "config.yaml").read_text() == before


def as_version_0_1(file: Path, ema: float | None = None) -> None:
    """A configuration as version 0.1 wrote it."""
    values = read_recipe(str(file))
    values["train"]["ema"] = ema
    file.write_text(yaml.safe_dump(values))


def test_an_unfinished_run_of_version_0_1_is_refused_and_can_be_trained_anew(
    tmp_path: Path, interrupted: tuple[Path, Run, Path]
) -> None:
    part, whole, whole_out = interrupted
    folder = RunFolder(shutil.copytree(part, tmp_path / "run"))
    for file in folder.path.rglob("config.yaml"):
        as_version_0_1(file)
    for checkpoint in folder.all_checkpoints():
        (checkpoint / "digests.json").unlink()
        (checkpoint / "methods.pt").rename(checkpoint / "custom_checkpoint_0.pkl")
    before = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"an unfinished run of filtersmith 0\.1, .*: remove .*checkpoints to train"):
        run(ASA, folder.path, resume=True)
    assert {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()} == before
    shutil.rmtree(folder.checkpoints)
    result = run(ASA, folder.path, resume=True)
    assert_equal_runs(whole, result, whole_out, folder.path)


def test_a_finished_run_of_version_0_1_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    averaged = "wau+ema(decay=0.9,warmup=False)"
    first = run(config(averaged, epochs=1), tmp_path)
    for file in tmp_path.rglob("config.yaml"):
        file.write_text(file.read_text().replace(averaged, "wau"))
        as_version_0_1(file, 0.9)
    monkeypatch.setattr(train, "Session", partial(pytest.fail, "was trained again"))
    assert run(config(averaged, epochs=1), tmp_path, resume=True) == first
    with pytest.raises(ValueError, match=r"method is 'wau\+ema\(decay=0.9,warmup=False\)' there and 'wau' here"):
        run(config("wau", epochs=1), tmp_path, resume=True)


@pytest.mark.parametrize("with_config", [False, True])
@pytest.mark.parametrize("resume", [False, True])
def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, with_config: bool, resume: bool) -> None:
    run(config("wau", epochs=1), tmp_path / "other")
    mine = RunFolder(tmp_path / "mine")
    if with_config:
        mine.create(config(epochs=1))
    shutil.copytree(tmp_path / "other" / "checkpoints", mine.checkpoints, dirs_exist_ok=True)
    with pytest.raises(ValueError, match=r"holds a run already|another recipe|is missing"):
        run(config(epochs=1), mine.path, resume=resume)
    assert not mine.model.exists()
