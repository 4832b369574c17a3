"""The arithmetic of a training step with every method, relative to plain training.

``python -m benchmarks.arithmetic`` prints one table, and with ``--write`` keeps it in benchmarks/arithmetic.json for
the tables of the documentation. Torch counts the multiplications of convolutions and matrix products, on ResNet-18 at
32x32 with batch 128 (what composes kernels costs less with a larger batch). A count needs no quiet machine, but it
sees neither traffic of memory nor elementwise work: a method of ratio 1.00 is not free. RePr and Prune are counted
while filters are left out, RePr's at random; KD with a teacher of the same size.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Optimizer

import filtersmith as fs
from benchmarks.timing import flops
from filtersmith import zoo

BATCH = 128
FILE = Path(__file__).with_suffix(".json")

Penalty = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Of images, outputs and labels."""
Method = Callable[[nn.Module], tuple[Optimizer, Penalty | None]]


def sgd(model: nn.Module) -> Optimizer:
    return SGD(fs.param_groups(model, weight_decay=1e-4), lr=1e-4, momentum=0.9)


def expanded(method: fs.KFLO | fs.DOConv | fs.ACNet | fs.DBB) -> Method:
    return lambda model: (sgd(fs.expand(model, method)), None)


def attached(make: Callable[[nn.Module], fs.WAU | fs.ConvLR | fs.EMA]) -> Method:
    def build(model: nn.Module) -> tuple[Optimizer, Penalty | None]:
        optimizer = sgd(model)
        make(model).attach(optimizer)
        return optimizer, None

    return build


def pruned(make: Callable[[nn.Module, Optimizer], fs.RePr | fs.DSD | fs.Prune]) -> Method:
    """In the phase in which something is left out."""

    def build(model: nn.Module) -> tuple[Optimizer, Penalty | None]:
        optimizer = sgd(model)
        make(model, optimizer).step()
        return optimizer, None

    return build


def penalised(model: nn.Module) -> tuple[Optimizer, Penalty | None]:
    return sgd(model), lambda *_: fs.OrthoLoss(model)()


def distilled(model: nn.Module) -> tuple[Optimizer, Penalty | None]:
    """With a teacher of its own size."""
    return sgd(model), fs.KD(copy.deepcopy(model)).penalty


def architecture(change: Callable[[nn.Module], object]) -> Method:
    def build(model: nn.Module) -> tuple[Optimizer, Penalty | None]:
        change(model)
        return sgd(model), None

    return build


METHODS: Mapping[str, Method] = {
    "baseline": lambda model: (sgd(model), None),
    "wau": attached(fs.WAU),
    "conv-lr": attached(fs.ConvLR),
    "ema": attached(fs.EMA),
    "kflo": expanded(fs.KFLO()),
    "do-conv": expanded(fs.DOConv()),
    "acnet": expanded(fs.ACNet()),
    "dbb": expanded(fs.DBB()),
    "repr": pruned(lambda model, optimizer: fs.RePr(model, optimizer, s1=1, s2=1, rank="random")),
    "dsd": pruned(lambda model, optimizer: fs.DSD(model, optimizer, s1=1, s2=1)),
    "prune": pruned(lambda model, optimizer: fs.Prune(model, optimizer, after=1)),
    "ortho-loss": penalised,
    "kd": distilled,
    "dacnn": architecture(fs.share_kernels),
    "regulators": architecture(fs.add_regulators),
}


def multiplications(build: Method) -> int:
    """Of one step: forward, penalty, backward and the optimizer.

    A part belongs to each image and the rest to the step, so that two small batches tell of a large one.
    """
    torch.manual_seed(0)
    model = zoo.build("torchvision:resnet18", num_classes=10, small_images=True)
    optimizer, penalty = build(model)
    one, two = (_counted(model, optimizer, penalty, batch) for batch in (2, 4))
    return one + (two - one) // 2 * (BATCH - 2)


def _counted(model: nn.Module, optimizer: Optimizer, penalty: Penalty | None, batch: int) -> int:
    images, labels = torch.randn(batch, 3, 32, 32), torch.randint(10, (batch,))

    def step() -> None:
        loss = F.cross_entropy(outputs := model(images), labels)
        (loss if penalty is None else loss + penalty(images, outputs, labels)).backward()
        optimizer.step()

    return flops(step)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"write {FILE.name}, too")
    write = parser.parse_args().write
    counted = {name: multiplications(build) for name, build in METHODS.items()}
    ratios = {name: round(count / counted["baseline"], 2) for name, count in counted.items()}
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("method")
    table.add_column("arithmetic ×", justify="right")
    for name, ratio in ratios.items():
        table.add_row(name, f"{ratio:.2f}")
    console = Console()
    console.print(f"Multiplications of a training step: ResNet-18, 32x32, batch {BATCH}", style="bold")
    console.print(table)
    if write:
        document = {"setting": f"ResNet-18, 32x32, batch {BATCH}", "ratios": ratios}
        FILE.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
