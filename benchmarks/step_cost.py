"""What a training step costs with WAU in both modes, against the plain step, in pairs in one process.

``python -m benchmarks.step_cost`` prints one table: ResNet-18 on 32x32 images, SGD with momentum, channels_last. On
the CPU with batch 64 and two threads, with ``--device cuda`` batch 128, and WRN-28-10 and ResNet-20, too; in float32
and under bfloat16 autocast. The gradients of weights are a third of a step's arithmetic, of which ``mode="skip"``
leaves out half at rate 0.5; how much that is of a network's step is counted. The copies of one network take turns.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Optimizer

import filtersmith as fs
from benchmarks.timing import Measured, Ratio, command, flops, in_turns
from filtersmith import zoo
from filtersmith.filters import filter_layers

NETWORKS = {"torchvision:resnet18": "ResNet-18", "wrn-28-10": "WRN-28-10", "resnet20": "ResNet-20"}
MEASURED = {"cpu": ("torchvision:resnet18",), "cuda": tuple(NETWORKS)}
BATCH = {"cpu": 64, "cuda": 128}
ROUNDS = 40
PRECISIONS = {"float32": False, "bfloat16": True}


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
    "mode=update": lambda model: fs.WAU(model, 0.5),
    "mode=skip": lambda model: fs.WAU(model, 0.5, mode="skip"),
    "a naive loop": lambda model: Naive(model, 0.5),
}


def step_of(
    model: nn.Module, method: Callable[[nn.Module], fs.WAU | Naive] | None, batch: int, autocast: bool
) -> Callable[[], None]:
    """A training step of a copy of the network."""
    model = copy.deepcopy(model)
    device = next(model.parameters()).device
    optimizer = SGD(model.parameters(), lr=1e-4, momentum=0.9, weight_decay=1e-4, foreach=True)
    if method is not None:
        method(model).attach(optimizer)
    images = torch.randn(batch, 3, 32, 32, device=device).to(memory_format=torch.channels_last)
    labels = torch.randint(10, (batch,), device=device)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            outputs: Tensor = model(images)
        F.cross_entropy(outputs.float(), labels).backward()
        optimizer.step()

    return step


def measure(device: str, batch: int, rounds: int, networks: tuple[str, ...]) -> Measured:
    rows = []
    for name in networks:
        torch.manual_seed(0)
        options = {"num_classes": 10, "small_images": True} if name.startswith("torchvision:") else {}
        model = zoo.build(name, **options).to(device, memory_format=torch.channels_last)
        for precision, autocast in PRECISIONS.items():
            runs = {"plain": step_of(model, None, batch, autocast)}
            runs |= {kind: step_of(model, method, batch, autocast) for kind, method in METHODS.items()}
            counts = {kind: flops(run) for kind, run in runs.items()}
            times = in_turns(runs, rounds, device=device)
            for kind in METHODS:
                ratio = Ratio.of(times["plain"], times[kind])
                rows.append((NETWORKS[name], precision, kind, str(ratio), f"{counts[kind] / counts['plain']:.2f}"))
    title = (
        f"A training step with WAU at rate 0.5, relative to the plain step: 32x32, batch {batch}, SGD with momentum"
    )
    columns = ("Network", "Precision", "WAU", "Time ×, quartiles", "Arithmetic ×")
    return Measured(f"wau-{device}", title, columns, tuple(rows), text_columns=3)


if __name__ == "__main__":
    command(__doc__, lambda device: measure(device, BATCH[device], ROUNDS, MEASURED[device]))
