"""Python scripts in processes of their own, which import what tests do."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from filtersmith.testing import assert_same

TESTS = Path(__file__).parents[1]
ENVIRONMENT = {
    "PYTHONPATH": f"{TESTS}:{TESTS.parent / 'src'}",
    "GLOO_SOCKET_IFNAME": "lo",
    "OMP_NUM_THREADS": "1",
    "MASTER_ADDR": "127.0.0.1",
}


def start(script: Path, *arguments: str, launch: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """A script with arguments; ``launch``: of a module that starts it (``-m torch.distributed.run``)."""
    return subprocess.Popen([sys.executable, *launch, str(script), *arguments], env=os.environ | ENVIRONMENT)


def kill_when(condition: Callable[[], bool], process: subprocess.Popen[bytes], limit: float = 120) -> None:
    """Kill a process as soon as a condition holds; it must not have ended by itself before."""
    end = time.monotonic() + limit
    while not condition() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    try:
        assert condition(), "it did not get so far"
        assert process.poll() is None, "it has ended by itself"
    finally:
        process.kill()
        process.wait()


def weights_of_ranks(script: str, folder: Path, *arguments: str, launch: Sequence[str] = ()) -> list[dict[str, Any]]:
    """What a script in two processes has saved as ``RANK.pt`` in a folder, its last argument."""
    file = folder / "train.py"
    file.write_text(script)
    assert start(file, *arguments, str(folder), launch=launch).wait(timeout=300) == 0
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def check_killed_and_resumed(script: str, text: str, folder: Path, *, second: str, seen: str) -> None:
    """A script that is killed goes on from a checkpoint, to the weights of one that went through, bit for bit.

    Its arguments: methods, the folder that gets ``deployed.pt``, a checkpoint or nothing, seconds between batches.

    Args:
        script: its text.
        text: methods.
        folder: of all files.
        second: the checkpoint that it goes on from, in its folder.
        seen: a file there that says when it is killed.
    """
    file, whole, killed = folder / "train.py", folder / "whole", folder / "killed"
    file.write_text(script)
    for one in (whole, killed):
        one.mkdir()
    assert start(file, text, str(whole), "", "0").wait(timeout=200) == 0
    kill_when((killed / seen).exists, start(file, text, str(killed), "", "0.3"))
    assert not (killed / "deployed.pt").exists()
    assert start(file, text, str(killed), str(killed / second), "0").wait(timeout=200) == 0
    assert_same(torch.load(killed / "deployed.pt"), torch.load(whole / "deployed.pt"))
