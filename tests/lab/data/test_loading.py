"""Batches by worker processes: in order, epoch after epoch, whoever is signalled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

import pytest
from torch.utils.data import Dataset

from filtersmith.lab.data.loading import Loading


class Told(Dataset[Any]):
    """The process that makes a batch, and the batch's keys."""

    def __len__(self) -> int:
        return 8

    def __getitems__(self, keys: list[tuple[int, int]]) -> Any:
        return "sample 7 is damaged" if (1, 7) in keys else (os.getpid(), keys)


@pytest.mark.parametrize("workers", [0, 2])
def test_epochs_have_the_same_workers(workers: int) -> None:
    loading = Loading(Told(), workers=workers, pin=False, stay=True)
    wanted = [[(0, 3), (0, 1)], [(0, 2)], [], [(0, 0)]]
    made = list(loading.batches(wanted))
    assert [keys for _, keys in made] == wanted
    again = loading.batches([[(1, 1)], [(1, 2)], [(1, 3)]])
    processes = {next(again)[0]}
    beside = next(loading.batches([[(2, 0)]]))  # another epoch, while one goes on
    processes |= {process for process, _ in again}
    assert processes <= {process for process, _ in made}
    assert (beside[0] == os.getpid()) is (workers == 0)
    with pytest.raises(ValueError, match="sample 7 is damaged"):
        list(loading.batches([[(1, 7)]]))


@pytest.mark.parametrize("workers", [-1, 1.0, True, "2"])
def test_what_is_no_number_of_workers(workers: Any) -> None:
    with pytest.raises(ValueError, match="workers must be a whole number >= 0"):
        Loading(Told(), workers=workers, pin=False, stay=True)


SIGNALLED = """
import signal, sys, time
from torch.utils.data import Dataset
from filtersmith.lab.data.loading import Loading

class Slow(Dataset):
    def __len__(self):
        return 40
    def __getitems__(self, keys):
        time.sleep(0.02)
        return keys

heard = []
for one in (signal.SIGTERM, signal.SIGINT):
    signal.signal(one, lambda number, frame: heard.append(number))
loading = Loading(Slow(), workers=2, pin=False, stay=True)
made = loading.batches([[(0, number)] for number in range(40)])
next(made)
print("ready", flush=True)
seen = 1 + sum(1 for _ in made)
print(seen, sorted(set(heard)), flush=True)
"""


def test_a_signal_to_all_processes_is_the_parents_alone() -> None:
    """As a terminal sends Ctrl-C, and a scheduler or `timeout` its SIGTERM."""
    process = subprocess.Popen(
        [sys.executable, "-c", SIGNALLED], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGTERM)
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert said == f"40 {sorted([int(signal.SIGINT), int(signal.SIGTERM)])}\n"
    assert process.returncode == 0, "idle workers end with their parent"
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
