"""What a step costs with a step mask, against the bare optimizer, measured in pairs in one process.

``python -m benchmarks.step_cost`` prints one table: ResNet-18 on 32x32 images, batch 32, SGD with momentum, float32,
two threads. Two copies of one network take turns; every ratio is a median over pairs, because machines are noisy.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Optimizer

import filtersmith as fs
from benchmarks.timing import paired
from filtersmith import zoo
from filtersmith.filters import filter_layers

STEP_PAIRS, TRAINING_PAIRS = 60, 24


class Naive:
    """WAU as one writes it first: keep a copy of every weight, loop over the filters and write the held ones back."""

    def __init__(self, model: nn.Module, rate: float = 0.5) -> None:
        self.layers, self.rate = filter_layers(model), rate

    def attach(self, optimizer: Optimizer) -> Naive:
        optimizer.register_step_pre_hook(self.before)
        optimizer.register_step_post_hook(self.after)
        return self

    def before(self, *_: object) -> None:
        self.kept = [layer.weight.detach().clone() for layer in self.layers]

    @torch.no_grad()
    def after(self, *_: object) -> None:
        for layer, kept in zip(self.layers, self.kept, strict=True):
            for f in torch.randperm(layer.filters)[int(self.rate * layer.filters) :]:
                layer.weight[f] = kept[f]


METHODS: dict[str, Callable[[nn.Module], fs.WAU | Naive]] = {
    "WAU, rate 0.5": lambda model: fs.WAU(model, 0.5),
    "WAU, authors' code": lambda model: fs.WAU(model, 0.5, unit="input-channel", draw="with-replacement"),
    "naive loop, rate 0.5": lambda model: Naive(model, 0.5),
}


def training_step(model: nn.Module, optimizer: Optimizer, images: Tensor, labels: Tensor) -> None:
    optimizer.zero_grad()
    F.cross_entropy(model(images), labels).backward()
    optimizer.step()


def held_bytes(model: nn.Module, attach: Callable[[nn.Module], fs.WAU | Naive]) -> int:
    """Bytes that the hooks keep during one step: what is held between the pre- and the post-hook."""
    model = copy.deepcopy(model)
    optimizer = SGD(model.parameters(), lr=0.0)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    found: list[int] = []

    def look(*_: object) -> None:  # runs before the method's own post-hook, which comes later
        kept = [k for *_, k in method._hold._kept[optimizer][0]] if isinstance(method, fs.WAU) else method.kept
        found.append(sum(k.numel() * k.itemsize for k in kept))

    optimizer.register_step_post_hook(look)
    method = attach(model).attach(optimizer)
    optimizer.step()
    return found[0]


def main() -> None:
    torch.set_num_threads(2)
    torch.manual_seed(0)
    network = zoo.build("torchvision:resnet18", num_classes=10, small_images=True)
    images, labels = torch.randn(32, 3, 32, 32), torch.randint(10, (32,))
    filters = sum(layer.weight.numel() * 4 for layer in filter_layers(network))
    table = Table(box=None, pad_edge=False)
    table.add_column("method", no_wrap=True)
    for head in ("step, ms", "bare, ms", "step ×", "training ×", "held, MB", "of filters"):
        table.add_column(head, justify="right")
    for name, attach in METHODS.items():
        copies = [copy.deepcopy(network) for _ in range(2)]
        optimizers = [SGD(m.parameters(), lr=1e-4, momentum=0.9, weight_decay=1e-4, foreach=True) for m in copies]
        attach(copies[1]).attach(optimizers[1])
        steps = [
            lambda m=m, o=o: training_step(m, o, images, labels) for m, o in zip(copies, optimizers, strict=True)
        ]
        training = paired(steps[0], steps[1], TRAINING_PAIRS)
        bare, masked, ratio = paired(optimizers[0].step, optimizers[1].step, STEP_PAIRS)
        held = held_bytes(network, attach)
        table.add_row(
            name,
            f"{masked * 1e3:.1f}",
            f"{bare * 1e3:.1f}",
            f"{ratio:.2f}",
            f"{training[2]:.3f}",
            f"{held / 1e6:.1f}",
            f"{held / filters:.0%}",
        )
    console = Console()
    console.print("Cost of a step: ResNet-18, 32x32, batch 32, SGD momentum, float32, foreach", style="bold")
    console.print(table)
    console.print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; × are medians of paired ratios.")


if __name__ == "__main__":
    main()
