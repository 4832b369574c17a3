"""Python scripts in processes of their own, which import what tests do."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

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
