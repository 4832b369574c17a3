"""Whatever file of a run folder holds a pickle: no command runs it, and each says in a line what is wrong."""

from __future__ import annotations

import io
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.running import digits
from rich.console import Console

from filtersmith.lab.compare import compare, normalised, plan
from filtersmith.lab.export import export
from filtersmith.lab.recipe.config import CompareConfig, merge
from filtersmith.lab.results.document import load
from filtersmith.lab.training.errors import RunFailed
from filtersmith.lab.training.progress import Live
from filtersmith.lab.training.run import train


class Touches:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.file}",)


def planted(touched: Path, file: Path) -> bytes:
    """A pickle as it is; as torch packs it where torch would read it."""
    if file.suffix not in (".pt", ".bin"):
        return pickle.dumps(Touches(touched))
    stream = io.BytesIO()
    torch.save(Touches(touched), stream)
    return stream.getvalue()


def quiet() -> Console:
    return Console(file=io.StringIO())


WHAT = normalised(
    merge(
        CompareConfig,
        options={
            "model.name": "vanilla-1-4",
            "train.epochs": 2,
            "train.batch_size": 719,
            "train.device": "cpu",
            "methods": ["baseline"],
            "seeds": 1,
        },
    )
)


def everything(out: Path) -> list[str]:
    """What every command that reads the folder of a run, or of a comparison, refuses; on copies."""
    said = []
    one = plan(WHAT, out)[0]
    commands = {
        "train": lambda: train(one.config, one.folder.path, digits(), resume=True),
        "export": lambda: export(one.folder.path, "safetensors"),
        "report": lambda: load(out),
        "compare": lambda: compare(WHAT, out, digits(), Live(quiet(), 1)),
    }
    for name, command in commands.items():
        copy = shutil.copytree(out, out.with_name("copy"))
        shutil.rmtree(out)  # so that a path in a message is the one of the commands
        shutil.copytree(copy, out)
        try:
            command()
        except (ValueError, RunFailed) as error:
            said.append(f"{name}: {error}")
        shutil.rmtree(out)
        copy.rename(out)
    return said


OLD = ("custom_checkpoint_0.pkl", "random_states_0.pkl", "optimizer.bin")


@pytest.mark.parametrize("finished", [True, False])
def test_no_file_of_a_run_runs_code(tmp_path: Path, finished: bool) -> None:
    out, touched = tmp_path / "out", tmp_path / "touched"
    compare(WHAT, out, digits(), Live(quiet(), 1))
    folder = plan(WHAT, out)[0].folder
    newest = folder.all_checkpoints()[-1]
    if finished:
        files = [file for file in folder.path.iterdir() if file.is_file()]
        files += [newest / "config.yaml", newest / "methods.pt", out / "results.json", out / "config.yaml"]
    else:
        folder.model.unlink()
        folder.write_manifest({**folder.read_manifest(), "status": "interrupted"})
        files = [*newest.iterdir(), *(newest / name for name in OLD), folder.manifest, folder.metrics]
    assert len(files) >= 9
    intact = everything(out)
    for file in files:
        before = file.read_bytes() if file.exists() else None
        file.write_bytes(planted(touched, file))
        said = everything(out)
        assert not touched.exists(), file
        assert all(line.count("\n") == 0 and len(line) < 700 for line in said), said
        # What a finished run does not need is not read.
        unread = finished and file.name in (".lock", "methods.pt")
        assert (said == intact) == unread, (file, said)
        file.unlink() if before is None else file.write_bytes(before)
    assert everything(out) == intact
