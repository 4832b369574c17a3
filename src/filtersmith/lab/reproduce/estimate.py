"""How long runs take: multiply-adds of the network, images of the data, epochs, and one measured throughput."""

from __future__ import annotations

import time
from functools import cache

from filtersmith.lab.papers.published import Row, Table
from filtersmith.lab.reproduce.arms import IMAGE_SIZE, IMAGES, PRETRAINED, Arm, arm_of
from filtersmith.zoo.figures import figures

BACKWARD = 3
"""A training step takes about as much arithmetic as three forward passes."""
MEASURED_ON, BATCH, STEPS = "resnet20", 128, 4


def work(arm: Arm) -> float:
    """Multiply-adds of one run, without what has to be trained before: an estimate, methods that cost more apart."""
    images = min(IMAGES[arm.data], arm.data_options.get("limit") or IMAGES[arm.data])
    images -= int(arm.data_options.get("holdout") or 0)
    return float(BACKWARD * images * arm.train.epochs * figures()[arm.network][1])


def whole_work(arm: Arm, seeds: int) -> float:
    """Of all runs of so many seeds, with what has to be trained before."""
    total = arm.generations * seeds * work(arm)
    if arm.teacher is not None:
        total += work(arm.teacher)
    if arm.begins_with is not None:
        total += min(PRETRAINED, seeds + arm.begins_count - 1) * work(arm.begins_with)
    return total


@cache
def throughput() -> float:
    """Multiply-adds a second in training steps of one small network on this machine; a few seconds."""
    import torch
    from torch.nn import functional as F

    from filtersmith import zoo

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with torch.random.fork_rng():
        network = zoo.build(MEASURED_ON).to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        images = torch.randn(BATCH, 3, IMAGE_SIZE, IMAGE_SIZE, device=device).contiguous(
            memory_format=torch.channels_last
        )
    labels = torch.zeros(BATCH, dtype=torch.int64, device=device)
    seconds = []
    for _ in range(STEPS):
        start = time.perf_counter()
        F.cross_entropy(network(images), labels).backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return BACKWARD * BATCH * figures()[MEASURED_ON][1] / min(seconds)


def of_table(table: Table, rows: tuple[Row, ...], scale: float, seeds: int) -> float:
    """Multiply-adds of the rows of a table; arms that several rows share count once."""
    arms = {(arm := arm_of(row, table, scale)).key: arm for row in rows}
    return sum(whole_work(arm, seeds) for arm in arms.values())


def duration(seconds: float) -> str:
    """In words: ``40 s``, ``12 min``, ``3.5 h``, ``12 days``.

    >>> [duration(seconds) for seconds in (40, 700, 12_600, 2e6)]
    ['40 s', '12 min', '3.5 h', '23 days']
    """
    if seconds < 90:
        return f"{round(seconds)} s"
    if seconds < 5_400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 3 * 86_400 else f"{seconds / 86_400:.0f} days"
