"""How long runs take: multiply-adds of the network, images of the data, epochs, and one measured throughput."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import cache

from filtersmith.lab.reproduce.arms import IMAGE_SIZE, IMAGES, Arm
from filtersmith.lab.reproduce.plan import Job, Place
from filtersmith.zoo.figures import figures

BACKWARD = 3
"""A training step takes about as much arithmetic as three forward passes."""
DETECTORS = {
    "fasterrcnn-vgg16": 215e9,
    "fasterrcnn-resnet50": 500e9,
    "fasterrcnn-resnet50-fpn": 171e9,
    "fasterrcnn-resnet101": 565e9,
    "fasterrcnn-resnet101-fpn": 228e9,
}
"""Multiply-adds of an image of 4:3 in training, at the size of the papers' rows (600 pixels for VGG, else 800),
counted by torch's ``FlopCounterMode`` with 512 regions, which without a pyramid run through a ResNet's last stage."""
MEASURED_ON, BATCH, STEPS = "resnet20", 128, 4


def work(arm: Arm, images: int | None = None, pixels: int | None = None) -> float:
    """Multiply-adds of one run, without what has to be trained before: an estimate, methods that cost more apart.

    Args:
        arm: what is trained.
        images: training images of the data that stands in place of the paper's.
        pixels: a side of the images in place of the recipe's.
    """
    there = IMAGES[arm.data]
    used = min(there, arm.data_options.get("limit") or there) - int(arm.data_options.get("holdout") or 0)
    share = (there if images is None else images) / there
    size = 1.0 if pixels is None else (pixels / arm.image_size) ** 2
    often = 1 if arm.frozen else BACKWARD * arm.train.epochs  # its features are made once
    return often * used * share * _multiply_adds(arm.network) * size


def _multiply_adds(network: str) -> float:
    """Of an image of the size for which it is listed, or of `DETECTORS`."""
    return DETECTORS.get(network) or float(figures()[network][1])


def of_jobs(jobs: Iterable[Job], place: Place) -> float:
    """Multiply-adds of several runs."""
    return sum(work(job.arm, place.images_of(job.arm), place.instead.image_size) for job in jobs)


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
