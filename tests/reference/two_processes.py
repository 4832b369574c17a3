"""Runs a function in two processes that talk over loopback, and brings back what each returned."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from reference import server


def _rank(work: Callable[[], Any], rank: int, folder: Path) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'store'}",
        rank=rank,
        world_size=2,
        timeout=datetime.timedelta(seconds=60),
    )
    try:
        torch.save(work(), folder / f"{rank}.pt")
    finally:
        dist.destroy_process_group()


def run(work: Callable[[], Any], folder: Path, limit: float = 100) -> list[Any]:
    """What ``work()``, a function of a module, returns in rank 0 and in rank 1. Ends both after ``limit`` seconds."""
    processes = [server.start(_rank, work, rank, folder) for rank in range(2)]
    end = time.monotonic() + limit
    try:
        for process in processes:
            process.join(max(0, end - time.monotonic()))
        assert [process.exitcode for process in processes] == [0, 0], "a rank failed or hung: see its traceback"
    finally:
        for process in processes:
            process.kill()
            process.join()
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]
