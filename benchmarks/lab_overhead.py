"""What the laboratory adds to a training loop, against a bare PyTorch loop that does the same work.

``python -m benchmarks.lab_overhead`` prints one table: epochs of C^3(32) and ResNet-20 on 1,280 random images of
32x32, batch 128, SGD with momentum and a cosine schedule, in float32 and under bfloat16 autocast, two threads;
``--device cuda`` takes 12,800 images. The bare loop has the laboratory's batches, so that order and augmentation are
the same; neither evaluates. Epochs of both take turns.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable

import torch
from rich.console import Console
from torch.nn import functional as F
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR

from benchmarks.timing import Measured, Ratio, command, in_turns
from filtersmith import zoo
from filtersmith.lab.data.records import Augment, Data, ImageSet
from filtersmith.lab.recipe.config import RunConfig, merge
from filtersmith.lab.training.progress import Live
from filtersmith.lab.training.session import Session
from filtersmith.lab.training.stopping import StopRequest

NETWORKS = {"vanilla-3-32": "C^3(32)", "resnet20": "ResNet-20"}
IMAGES = {"cpu": 1_280, "cuda": 12_800}
ROUNDS = 30


def random_images(count: int) -> Data:
    def split(count: int) -> ImageSet:
        images = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8)
        return ImageSet(images.to(memory_format=torch.channels_last), torch.randint(10, (count,)))

    classes = tuple(map(str, range(10)))
    return Data("random", "random images", split(count), split(100), classes, Augment(pad=4, flip=True))


def session_of(name: str, data: Data, precision: str, device: str) -> Session:
    options = {"model.name": name, "train.precision": precision, "train.device": device}
    options |= {"data.name": "digits", "train.epochs": 1000, "train.batch_size": 128}
    return Session(merge(RunConfig, options=options), data)


def epoch_of(session: Session) -> Callable[[], None]:
    """An epoch as `filtersmith train` has it, told of on a terminal."""
    live = Live(Console(file=io.StringIO(), force_terminal=True), 1)
    live.begin("run")
    live.start(1000, ())
    stop = StopRequest()

    def epoch() -> None:
        with live:
            session.train_epoch(stop, live)
        session.position.epoch, session.position.batch = 0, 0

    return epoch


def bare_epoch_of(session: Session, name: str, precision: str) -> Callable[[], None]:
    """The loop that one writes by hand, with the same batches, settings and sums."""
    device, options = session.accelerator.device, session.config.train
    model = zoo.build(name).to(device, memory_format=torch.channels_last)
    optimizer = SGD(model.parameters(), options.lr, momentum=options.momentum, weight_decay=options.weight_decay)
    scheduler = CosineAnnealingLR(optimizer, 1000 * len(session.batches.train))
    autocast = precision == "bf16"

    def epoch() -> None:
        model.train()
        loss_sum, correct = torch.zeros((), device=device), torch.zeros((), device=device)
        for images, labels in session.batches.train.epoch(0):
            with torch.autocast(device.type, torch.bfloat16) if autocast else contextlib.nullcontext():
                outputs = model(images)
            loss = F.cross_entropy(outputs.float(), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()
            loss_sum += loss.detach() * len(labels)
            correct += (outputs.argmax(1) == labels).sum()
        if not torch.isfinite(loss_sum):
            raise ValueError("the loss is not finite")

    return epoch


def measure(device: str, images: int, rounds: int) -> Measured:
    torch.manual_seed(0)
    data, rows = random_images(images), []
    for name, title in NETWORKS.items():
        for precision in ("fp32", "bf16"):
            session = session_of(name, data, precision, device)
            runs = {"bare": bare_epoch_of(session, name, precision), "laboratory": epoch_of(session)}
            times = in_turns(runs, rounds, warm_up=1, device=device)
            rows.append((title, precision, str(Ratio.of(times["bare"], times["laboratory"]))))
    title = "An epoch of the laboratory, relative to a bare loop: 32x32, batch 128"
    columns = ("Network", "Precision", "Time × (quartiles)")
    return Measured(f"laboratory-{device}", title, columns, tuple(rows), text_columns=2)


if __name__ == "__main__":
    command(__doc__, lambda device: measure(device, IMAGES[device], ROUNDS))
