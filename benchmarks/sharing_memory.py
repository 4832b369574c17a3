"""What shared kernels save: memory of a training, and the size of the file that is deployed.

``python -m benchmarks.sharing_memory`` prints one table: DACNN-18, plain and mixed, and torchvision's ResNet-18 with
its kernels shared by stage, each beside itself with free kernels. Bytes are those of the tensors that are there
after one step: parameters, gradients and the optimizer's state, a shared one counted once. Files are written as
`filtersmith export` writes them. The arithmetic of a step is the same.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, Optimizer

import filtersmith as fs
from benchmarks.memory import size, state_of
from filtersmith import zoo
from filtersmith.lab.formats import write
from filtersmith.lab.tasks.classification import CLASSIFICATION


def resnet18(shared: bool) -> nn.Module:
    model = zoo.build("torchvision:resnet18", 100)
    if shared:
        fs.share_kernels(model, "stage")
    return model


NETWORKS: dict[str, Callable[[bool], nn.Module]] = {
    "DACNN-18": lambda shared: zoo.build("dacnn18" if shared else "dacnn18-unshared", 100),
    "DACNN-18 (mix)": lambda shared: zoo.build("dacnn18-mix" if shared else "dacnn18-mix-unshared", 100),
    "ResNet-18, by stage": resnet18,
}
OPTIMIZERS: dict[str, Callable[[Iterable[nn.Parameter]], Optimizer]] = {
    "SGD": lambda parameters: SGD(parameters, lr=0.01, momentum=0.9),
    "Adam": lambda parameters: Adam(parameters, lr=1e-3),
}


def after_one_step(model: nn.Module, optimizer: Optimizer) -> tuple[int, int, int]:
    """Bytes of parameters, gradients and optimizer state."""
    F.cross_entropy(model(torch.randn(2, 3, 32, 32)), torch.randint(100, (2,))).backward()
    optimizer.step()
    parameters = list(model.parameters())
    return size(parameters), size(p.grad for p in parameters if p.grad is not None), size(state_of(optimizer))


def file_size(model: nn.Module, format: str) -> int:
    how = CLASSIFICATION.exporting({"in_channels": 3, "image_size": 32, "num_classes": 100})
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / format
        write(model.eval(), format, file, how, {})
        return file.stat().st_size


def main() -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    heads = ("network", "kernels", "parameters", "gradients", *OPTIMIZERS, "safetensors", "onnx")
    for head in heads:
        table.add_column(head, justify="left" if head in heads[:2] else "right")
    for name, build in NETWORKS.items():
        for shared in (False, True):
            row = []
            for make in OPTIMIZERS.values():
                torch.manual_seed(0)
                model = build(shared)
                parameters, gradients, state = after_one_step(model, make(model.parameters()))
                row.append(state)
            sizes = [parameters, gradients, *row, *(file_size(model, format) for format in ("safetensors", "onnx"))]
            kernels = "shared" if shared else "free"
            table.add_row("" if shared else name, kernels, *(f"{number / 1e6:.2f}" for number in sizes))
    console = Console()
    console.print("Memory of a training, and of the deployed file, in MB (float32, 100 classes)", style="bold")
    console.print(table)


if __name__ == "__main__":
    main()
