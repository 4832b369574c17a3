"""Images per second of the laboratory's training on image files against torchvision's reference loop.

``python -m benchmarks.imagenet`` makes 2,000 JPEGs of ImageNet's sizes (most 500x375), or takes a folder that is
named: ``python -m benchmarks.imagenet FOLDER`` with ``train/CLASS/IMAGE.JPEG``. Both sides read them with two worker
processes: RandomResizedCrop to 224 pixels, a mirror image half the time, normalisation. The reference is that of
torchvision's ``references/classification``: ImageFolder and Pillow images. Two things are timed: batches alone, and a
training of ResNet-18 on images of 64 pixels, where decoding and training compete for the same cores. The two take
turns in one process, and ratios are medians over pairs.
"""

from __future__ import annotations

import itertools
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from benchmarks.timing import in_turns
from filtersmith.lab.data import Augment, Batching, FileSet, StreamBatches, load

IMAGES, CLASSES, BATCH = 2000, 10, 64
THREADS, WORKERS = 2, 2
LOADED, TRAINED = 512, 128  # images of a round
PAIRS = 7
SIZE, SMALL = 224, 64
SIZES = ((375, 500), (333, 500), (375, 500), (500, 375), (375, 500), (500, 500), (375, 500), (480, 640))
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Pairs = Iterable[tuple[Tensor, Tensor]]


def photograph(seed: int, height: int, width: int) -> Image.Image:
    """Clouds of several sizes with grain: as JPEG about as large as a photograph, 100 KB at 500x375."""
    random = np.random.default_rng(seed)
    total = random.normal(118, 6, (height, width, 1)).astype(np.float32).repeat(3, 2)
    for cells, strength in ((3, 60), (12, 30), (48, 20), (160, 12)):
        planes = random.normal(0, strength, (3, cells, cells)).astype(np.float32)
        clouds = [Image.fromarray(one).resize((width, height), Image.Resampling.BICUBIC) for one in planes]
        total += np.stack([np.asarray(cloud) for cloud in clouds], 2)
    return Image.fromarray(total.clip(0, 255).astype(np.uint8))


def photographs(folder: Path, count: int, sizes: Iterable[tuple[int, int]] = SIZES) -> Path:
    """``folder/train`` and ``folder/val`` with ``count`` JPEGs in class folders, a tenth of them to test on."""
    endless = itertools.cycle(sizes)
    for number in range(count):
        place, label = divmod(number, CLASSES)
        split = "val" if place % 10 == 9 else "train"
        name = f"n{1440764 + 977 * label:08d}"
        file = folder / split / name / f"{name}_{number}.JPEG"
        file.parent.mkdir(parents=True, exist_ok=True)
        photograph(number, *next(endless)).save(file, quality=92)
    return folder


def reference(folder: Path, size: int, count: int) -> DataLoader[Any]:
    """torchvision/references/classification/presets.py with Pillow images, and its loader."""
    steps = [
        v2.RandomResizedCrop(size, antialias=True),
        v2.RandomHorizontalFlip(),
        v2.PILToTensor(),
        v2.ToDtype(torch.float, scale=True),
        v2.Normalize(MEAN, STD),
        v2.ToPureTensor(),
    ]
    images = ImageFolder(str(folder / "train"), v2.Compose(steps))
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:count].tolist()
    part = Subset(images, chosen)
    return DataLoader(part, BATCH, shuffle=True, num_workers=WORKERS, pin_memory=torch.cuda.is_available())


def ours(folder: Path, size: int, count: int, device: torch.device) -> StreamBatches:
    data = load(f"imagefolder:{folder}", image_size=max(size, 97))
    if not isinstance(data.train, FileSet):
        raise TypeError(f"{folder}: images of {size} pixels were taken into memory")
    chosen = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))[:count].tolist()
    part = FileSet([data.train.files[number] for number in chosen], data.train.labels[chosen], size)
    batching = Batching(BATCH, device, MEAN, STD, augment=Augment(1, True), shuffle=True)
    return StreamBatches(part, batching, workers=WORKERS)


def network(device: torch.device, layout: torch.memory_format) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model: nn.Module = torchvision.models.resnet18(num_classes=CLASSES)
    model = model.to(device=device, memory_format=layout)  # type: ignore[call-overload]
    return model, torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)


def train(batches: Pairs, model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """An epoch as both loops have it."""
    for images, labels in batches:
        loss = F.cross_entropy(model(images.to(device)), labels.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    wait(device)


def read(batches: Pairs, device: torch.device) -> None:
    for images, labels in batches:
        images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
    wait(device)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def rounds(folder: Path, device: torch.device) -> Iterator[tuple[str, int, Callable[[], None], Callable[[], None]]]:
    """What is timed, of how many images, by the reference and by us."""
    epochs = itertools.count()
    theirs, mine = reference(folder, SIZE, LOADED), ours(folder, SIZE, LOADED, device)
    yield (
        f"batches of {SIZE}x{SIZE}",
        LOADED,
        lambda: read(theirs, device),
        lambda: read(mine.epoch(next(epochs)), device),
    )
    side, count = (SIZE, LOADED) if device.type == "cuda" else (SMALL, TRAINED)
    few, few_of_mine = reference(folder, side, count), ours(folder, side, count, device)
    plain, last = network(device, torch.contiguous_format), network(device, torch.channels_last)
    yield (
        f"training of ResNet-18, {side}x{side}",
        count,
        lambda: train(few, *plain, device),
        lambda: train(few_of_mine.epoch(next(epochs)), *last, device),
    )


def measure(folder: Path, device: torch.device, pairs: int = PAIRS) -> list[tuple[str, float, float, float]]:
    """What was timed, images per second of the reference and of us, and the median of the pairs' ratios."""
    found = []
    for name, count, theirs, mine in rounds(folder, device):
        times = in_turns({"theirs": theirs, "ours": mine}, pairs, warm_up=1)
        ratio = statistics.median(a / b for a, b in zip(times["theirs"], times["ours"], strict=True))
        speeds = [count / statistics.median(times[who]) for who in ("theirs", "ours")]
        found.append((name, speeds[0], speeds[1], ratio))
    return found


def main(named: str | None) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(named) if named else photographs(Path(temporary), IMAGES)
        rows = measure(folder, device)
    table = Table(box=None, pad_edge=False)
    table.add_column(f"on {device.type}")
    for head in ("torchvision's reference", "filtersmith", "ratio"):
        table.add_column(head, justify="right")
    for name, theirs, mine, ratio in rows:
        table.add_row(name, f"{theirs:,.0f}", f"{mine:,.0f}", f"{ratio:.2f}×")
    console = Console(width=100)
    console.print(f"Images/s: JPEGs of about 500x375, batch {BATCH}, {WORKERS} workers", style="bold")
    console.print(table)
    console.print(
        f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, Python {platform.python_version()}, torch "
        f"{torch.__version__}, torchvision {torchvision.__version__}; medians over {PAIRS} pairs."
    )


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
