"""Times that can be compared: runs take turns in one process, and ratios are medians over the rounds.

What was measured is printed as a table and, with ``--write``, kept in results/performance as rows with the machine,
for the tables of the documentation.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from filtersmith.lab.training.environment import environment

Run = Callable[[], object]
KEPT = Path(__file__).resolve().parent.parent / "results" / "performance"


def seconds(run: Run, device: str = "cpu") -> float:
    """Of one call; on a GPU until all that it began is done, by the GPU's clock."""
    if device == "cuda":
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        begin.record()
        run()
        end.record()
        torch.cuda.synchronize(device)
        return float(begin.elapsed_time(end)) / 1e3
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def in_turns(runs: Mapping[str, Run], rounds: int, warm_up: int = 2, device: str = "cpu") -> dict[str, list[float]]:
    """Seconds of every run in every round; who goes first changes from round to round."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for turn in range(warm_up + rounds):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            taken = seconds(runs[name], device)
            if turn >= warm_up:
                times[name].append(taken)
    return times


@dataclass(frozen=True)
class Ratio:
    """How many times as long something takes: median and quartiles over pairs.

    >>> str(Ratio.of([1.0, 2.0, 4.0], [2.0, 2.0, 4.0]))
    '1.00 (1.00 to 1.50)'
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, bare: Sequence[float], other: Sequence[float]) -> Ratio:
        ratios = [b / a for a, b in zip(bare, other, strict=True)]
        low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
        return cls(median, low, high)

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True)
class Measured:
    """A table of what was measured: the first columns are text, the others figures or ``None``."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    text_columns: int = 1
    notes: tuple[str, ...] = ()
    curves: tuple[Mapping[str, Any], ...] = ()
    """What pictures are drawn from, kept beside the table."""

    def show(self) -> None:
        table = Table(box=None, pad_edge=False)
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="left" if number < self.text_columns else "right", no_wrap=number > 0)
        for row in self.rows:
            table.add_row(*("—" if cell is None else str(cell) for cell in row))
        console = Console()
        console.print(self.title, style="bold")
        console.print(table)
        for note in self.notes:
            console.print(note, highlight=False)

    def write(self, device: str) -> None:
        document = {
            "title": f"{self.title} ({machine(device)})",
            "text_columns": self.text_columns,
            "columns": self.columns,
            "rows": self.rows,
            "notes": self.notes,
        } | ({"curves": self.curves} if self.curves else {})
        KEPT.mkdir(parents=True, exist_ok=True)
        (KEPT / f"{self.name}.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def machine(device: str) -> str:
    """What it was measured on, in words."""
    found = environment(torch.device(device))
    where = found["device"] if device != "cpu" else f"{found['threads']} threads of {found['cpu']}"
    return ", ".join(filter(None, (where, f"torch {found['torch']}", found["commit"])))


def flops(run: Run) -> int:
    """The multiplications of a run, as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def arguments(text: str | None, device: bool = False, default: str = "cpu") -> argparse.Namespace:
    """Of a command that measures something: ``--write``, and ``--device`` where it can be elsewhere."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="keep it in results/performance, too")
    if device:
        parser.add_argument("--device", choices=("cpu", "cuda"), default=default, help="default: %(default)s")
    return parser.parse_args()


def command(text: str | None, measure: Callable[[str], Measured]) -> None:
    """Measure on the device that is asked for, on a CPU with two threads; show the table, and keep it where asked."""
    asked = arguments(text, device=True)
    if asked.device == "cpu":
        torch.set_num_threads(2)
    found = measure(asked.device)
    found.show()
    if asked.write:
        found.write(asked.device)
