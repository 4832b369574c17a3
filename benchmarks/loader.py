"""Images per second of the laboratory's batches against a torchvision DataLoader that does the same work.

``python -m benchmarks.loader`` prints one table: 50,000 images of CIFAR-10's shape (random uint8), batches of
128, a random 32x32 crop of the image padded by 4, a mirror image half the time, normalisation; two threads
against two worker processes. The two take turns in one process, and the ratio is a median over pairs, because
machines are noisy. (On cores that other programs use too, torch's threads wait for one another and the ratio
drops.)
"""

from __future__ import annotations

import itertools
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
import torchvision
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler
from torchvision import transforms
from torchvision.datasets import CIFAR10

from filtersmith.lab.data import Augment, Batches, Batching, ImageSet

THREADS, WORKERS, BATCH, PAIRS = 2, 2, 128, 5
SECONDS = 25  # for each device; a busy machine gets fewer pairs
IMAGES, SAMPLED = 50_000, 80 * BATCH  # the DataLoader is slow: it is timed on a part of an epoch
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def pixels() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """uint8 (N, H, W, C) of noise: cropping and normalising do not mind what is in a picture."""
    return np.random.default_rng(0).integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8)


def torchvision_loader(
    data: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], device: torch.device
) -> DataLoader[object]:
    """The recipe of every tutorial, on torchvision's own CIFAR10 class with its files left out."""
    dataset = CIFAR10.__new__(CIFAR10)
    dataset.data, dataset.targets, dataset.target_transform = data, [0] * len(data), None
    dataset.transform = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    return DataLoader(
        dataset,
        BATCH,
        sampler=RandomSampler(dataset, num_samples=SAMPLED),
        num_workers=WORKERS,
        persistent_workers=True,
        pin_memory=device.type == "cuda",
    )


def our_batches(data: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], device: torch.device) -> Batches:
    images = ImageSet(torch.from_numpy(data).permute(0, 3, 1, 2), torch.zeros(len(data), dtype=torch.int64))
    return Batches(images, Batching(BATCH, device, MEAN, STD, augment=Augment(4, True), shuffle=True))


def speed(batches: Iterable[tuple[Tensor, Tensor]], device: torch.device) -> float:
    """Images per second, all of them on the device at the end."""
    count, start = 0, time.perf_counter()
    for images, labels in batches:
        images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        count += len(labels)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return count / (time.perf_counter() - start)


def measure(device: torch.device) -> tuple[float, float, float, int]:
    """Medians of both speeds and of the pairs' ratios, and how many pairs; who goes first alternates."""
    data = pixels()
    theirs, ours = torchvision_loader(data, device), our_batches(data, device)
    epochs = itertools.count()
    runs: list[Callable[[], float]] = [
        lambda: speed(theirs, device),
        lambda: speed(ours.epoch(next(epochs)), device),
    ]
    pairs: list[tuple[float, float]] = []
    start = time.perf_counter()
    while len(pairs) <= PAIRS and (len(pairs) < 2 or time.perf_counter() - start < SECONDS):
        order = (0, 1) if len(pairs) % 2 else (1, 0)
        found = {which: runs[which]() for which in order}
        pairs.append((found[0], found[1]))
    pairs = pairs[1:]  # warm-up
    return (
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(b / a for a, b in pairs),
        len(pairs),
    )


def devices() -> Iterator[torch.device]:
    yield torch.device("cpu")
    if torch.cuda.is_available():
        yield torch.device("cuda")


def main() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        table = Table(box=None, pad_edge=False)
        table.add_column("batches on")
        for head in (f"DataLoader, {WORKERS} workers", "filtersmith", "ratio", "pairs"):
            table.add_column(head, justify="right")
        for device in devices():
            theirs, ours, ratio, pairs = measure(device)
            table.add_row(device.type, f"{theirs:,.0f}", f"{ours:,.0f}", f"{ratio:.1f}×", str(pairs))
    finally:
        torch.set_num_threads(threads)
    console = Console(width=80)
    console.print("Images/s: 32x32 colour, crop (pad 4), flip, normalise, batch 128", style="bold")
    console.print(table)
    console.print(
        f"{os.cpu_count()} cores, {THREADS} threads, Python {platform.python_version()}, torch {torch.__version__}, "
        f"torchvision {torchvision.__version__}; medians over pairs of runs."
    )


if __name__ == "__main__":
    main()
