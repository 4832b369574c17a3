"""How many small trainings a machine finishes in the time of one after another: ``compare --jobs N``.

``python -m benchmarks.side_by_side`` prints one table: C^3(32) and ResNet-20 on digits. Throughput is how many times
as many runs are finished in the same time as with one at a time. Of the start of the processes nothing is counted:
what is compared is the time that more epochs add, in rounds of which the median is shown, with the smallest and the
largest. On the CPU two runs at a time, each on one of two threads; ``--device cuda`` as many as 8.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.timing import Measured, command

NETWORKS = {"vanilla-3-32": "C^3(32)", "resnet20": "ResNet-20"}
JOBS = {"cpu": (2,), "cuda": (2, 4, 8)}
EPOCHS = {"cpu": (2, 32), "cuda": (10, 110)}
ROUNDS = 3


def taken(network: str, device: str, runs: int, jobs: int, epochs: int, out: Path) -> float:
    """Seconds of a comparison."""
    command = [sys.executable, "-m", "filtersmith", "compare", "--data", "digits", "--model", network]
    command += ["--methods", "baseline", "--seeds", str(runs), "--jobs", str(jobs), "--epochs", str(epochs)]
    command += ["--precision", "bf16", "--set", f"train.device={device}", "--out", str(out)]
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def of_the_epochs(network: str, device: str, jobs: int, epochs: tuple[int, int], folder: Path) -> float:
    """Seconds that as many runs as there are jobs take for the epochs that the longer comparison has more."""
    short, long = (taken(network, device, jobs, jobs, n, folder / f"{network}-{jobs}-{n}") for n in epochs)
    return long - short


def measure(
    device: str, networks: Sequence[str], jobs: Sequence[int], epochs: tuple[int, int], rounds: int
) -> Measured:
    rows: list[tuple[str | None, ...]] = []
    more = epochs[1] - epochs[0]
    for network in networks:
        times: dict[int, list[float]] = {n: [] for n in (1, *jobs)}
        for _ in range(rounds):
            for n, found in times.items():
                with tempfile.TemporaryDirectory() as folder:
                    found.append(of_the_epochs(network, device, n, epochs, Path(folder)))
        for n, found in times.items():
            seconds = f"{statistics.median(found) / more:.2f}"
            ratios = sorted(n * alone / together for alone, together in zip(times[1], found, strict=True))
            ends = f" ({ratios[0]:.2f} to {ratios[-1]:.2f})" if n > 1 and rounds > 1 else ""
            rows.append((NETWORKS[network], str(n), seconds, f"{statistics.median(ratios):.2f}{ends}"))
    title = f"Runs side by side: digits, batch 128, bfloat16, {more} epochs each"
    columns = ("Network", "Runs at a time", "Seconds an epoch of all", "Throughput ×")
    return Measured(f"jobs-{device}", title, columns, tuple(rows), text_columns=1)


if __name__ == "__main__":
    command(__doc__, lambda device: measure(device, list(NETWORKS), JOBS[device], EPOCHS[device], ROUNDS))
