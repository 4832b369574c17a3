"""Times that can be compared: runs take turns in one process, and ratios are medians over the rounds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

Run = Callable[[], object]


def seconds(run: Run) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def in_turns(runs: Mapping[str, Run], rounds: int, warm_up: int = 2) -> dict[str, list[float]]:
    """Seconds of every run in every round; who goes first changes from round to round."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for turn in range(warm_up + rounds):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            taken = seconds(runs[name])
            if turn >= warm_up:
                times[name].append(taken)
    return times


def paired(bare: Run, other: Run, pairs: int) -> tuple[float, float, float]:
    """Medians of both times in seconds, and of the pairs' ratios."""
    times = in_turns({"bare": bare, "other": other}, pairs)
    ratios = [b / a for a, b in zip(times["bare"], times["other"], strict=True)]
    return statistics.median(times["bare"]), statistics.median(times["other"]), statistics.median(ratios)
