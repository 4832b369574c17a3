"""What a training step costs with KFLO 2x4, against plain training and against composing as the paper writes it.

``python -m benchmarks.kflo_cost`` prints one table: WRN-16-8 and VGG-16 on 32x32 images, batch 128, SGD with
momentum, bfloat16 autocast, channels_last. All take turns in one process. The arithmetic column is the least that
composing in this way can cost: the multiplications of a step relative to the plain step's, as torch counts them. The
naive versions compose by conv1d (Eqs. 3, 4); the paper's decay is a penalty in their loss, for which the kernels are
composed again.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable
from typing import Literal

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import is_parametrized
from torch.optim import SGD

import filtersmith as fs
from benchmarks.timing import flops, in_turns, paired
from filtersmith import zoo

DECAY, BATCH = 1e-4, 128
ROUNDS = {"wrn-16-8": 5, "vgg16-kflo": 11}
NAIVE = "naive, penalty in the loss"
Penalty = Literal["float32", "autocast"]


def naive_kernel(filtered: Tensor, *pointwise: Tensor) -> Tensor:
    """Eqs. (3), (4) as they stand: the kernel as a signal, filtered by pointwise one-dimensional convolutions."""
    rows = filtered.reshape(1, len(filtered), -1)
    for matrix in pointwise:
        rows = F.conv1d(rows, matrix[:, :, None])
    return rows.view(-1, *filtered.shape[1:])


def expanded(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if is_parametrized(module, "weight")]


def training_step(model: nn.Module, batch: int, penalty: Penalty | None = None) -> Callable[[], None]:
    """One step; the loss is outside of autocast, as accelerate has it, unless the penalty is meant to be inside."""
    naive = any("naive" in vars(layer) for layer in expanded(model))
    groups = [{"params": list(model.parameters())}] if naive else fs.param_groups(model, DECAY)
    optimizer = SGD(groups, lr=1e-3, momentum=0.9)
    images = torch.randn(batch, 3, 32, 32).to(memory_format=torch.channels_last)
    labels = torch.randint(10, (batch,))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            outputs = model(images)
            loss = decay(model) if penalty == "autocast" else 0
        if penalty == "float32":
            loss = decay(model)
        optimizer.zero_grad()
        (loss + F.cross_entropy(outputs.float(), labels)).backward()
        optimizer.step()

    return step


def decay(model: nn.Module) -> Tensor:
    """The paper's penalty of the generated kernels."""
    return DECAY / 2 * torch.stack([layer.weight.float().square().sum() for layer in expanded(model)]).sum()


def make_naive(kflo: nn.Module) -> nn.Module:
    model = copy.deepcopy(kflo)
    for layer in expanded(model):
        layer.naive = True
        layer.parametrizations.weight[0].forward = naive_kernel
    return model


def steps(name: str, batch: int) -> tuple[dict[str, Callable[[], None]], dict[str, nn.Module]]:
    """The steps that are compared, and the plain and the collapsed network."""
    plain = zoo.build(name).to(memory_format=torch.channels_last)
    kflo = fs.expand(copy.deepcopy(plain), fs.KFLO(depth=2, width=4))
    networks = {"plain": plain, "collapsed": fs.collapse(kflo)}
    return {
        "plain": training_step(plain, batch),
        "KFLO 2x4": training_step(kflo, batch),
        NAIVE: training_step(make_naive(kflo), batch, "float32"),
        "naive, penalty in autocast": training_step(make_naive(kflo), batch, "autocast"),
        "naive, no decay": training_step(make_naive(kflo), batch),
    }, networks


@torch.no_grad()
def inference(networks: dict[str, nn.Module], batch: int) -> float:
    """Time of the collapsed network relative to the plain one, in evaluation mode."""
    images = torch.randn(batch, 3, 32, 32).to(memory_format=torch.channels_last)

    def forward(model: nn.Module) -> Callable[[], Tensor]:
        model.eval()
        return lambda: model(images)

    with torch.autocast("cpu", torch.bfloat16):
        return paired(forward(networks["plain"]), forward(networks["collapsed"]), 15)[2]


def main() -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("network", "step", "s", "× plain", "extra ÷ naive", "arithmetic ×"):
        table.add_column(column, justify="left" if column in ("network", "step") else "right")
    notes = []
    for name, rounds in ROUNDS.items():
        torch.manual_seed(0)
        runs, networks = steps(name, BATCH)
        multiplications = {kind: flops(run) for kind, run in runs.items()}
        times = in_turns(runs, rounds, warm_up=1)
        plain, naive = times["plain"], times[NAIVE]
        for kind, taken in times.items():
            ratio = statistics.median(t / p for t, p in zip(taken, plain, strict=True))
            extra = statistics.median((t - p) / (n - p) for t, p, n in zip(taken, plain, naive, strict=True))
            table.add_row(
                name if kind == "plain" else "",
                kind,
                f"{statistics.median(taken):.2f}",
                f"{ratio:.2f}",
                f"{extra:.2f}" if kind != "plain" else "",
                f"{multiplications[kind] / multiplications['plain']:.2f}",
            )
        sizes = {kind: sum(p.numel() for p in network.parameters()) for kind, network in networks.items()}
        notes.append(
            f"{name} collapsed: inference {inference(networks, BATCH):.2f} × plain, "
            f"{sizes['collapsed']:,} parameters (plain {sizes['plain']:,})"
        )
    console = Console()
    console.print(f"A training step with KFLO: 32x32, batch {BATCH}, SGD momentum, bfloat16 autocast", style="bold")
    console.print(table)
    for note in notes:
        console.print(note, highlight=False)
    console.print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads; medians over rounds of paired ratios."
    )


if __name__ == "__main__":
    main()
