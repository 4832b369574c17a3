"""What a training step costs in RePr's two phases, against plain training.

``python -m benchmarks.repr_cost`` prints one table: C^3(128) and VGG-16 on 32x32 images, batch 128, SGD with
momentum, float32, channels_last; 30% of the filters left out at random, the first layer whole. All take turns in one
process. The arithmetic column is the least that the sub-network can cost: the multiplications of a step relative to
the plain step's, as torch counts them. The last column is a whole training of 100 epochs with the paper's phases, 70
full ones and 30 of the sub-network.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional as F
from torch.optim import SGD

import filtersmith as fs
from benchmarks.timing import flops, in_turns
from filtersmith import zoo

BATCH, ROUNDS = 128, 7
NETWORKS = {"vanilla-3-128": "C^3(128)", "vgg16-kflo": "VGG-16"}
SUB_SHARE = 0.3
"""Of the epochs: three phases of 10 in 100 (RePr, Fig. 1)."""


def training_step(name: str, phase: str) -> Callable[[], None]:
    torch.manual_seed(0)
    model = zoo.build(name).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    images = torch.randn(BATCH, 3, 32, 32).to(memory_format=torch.channels_last)
    labels = torch.randint(10, (BATCH,))
    if phase != "plain":
        cycle = fs.RePr(model, optimizer, s1=1, s2=1, prune=0.3, rank="random")
        if phase == "sub-network":
            cycle.step()

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return step


def main() -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("network", "step", "s", "× plain", "arithmetic ×", "whole training ×"):
        table.add_column(column, justify="left" if column in ("network", "step") else "right")
    for name, title in NETWORKS.items():
        steps = {phase: training_step(name, phase) for phase in ("plain", "full", "sub-network")}
        counted = {phase: flops(step) for phase, step in steps.items()}
        times = in_turns(steps, ROUNDS)
        ratios = {
            phase: statistics.median(t / p for t, p in zip(taken, times["plain"], strict=True))
            for phase, taken in times.items()
        }
        whole = (1 - SUB_SHARE) * ratios["full"] + SUB_SHARE * ratios["sub-network"]
        for phase, taken in times.items():
            table.add_row(
                title if phase == "plain" else "",
                phase if phase == "plain" else f"RePr, {phase}",
                f"{statistics.median(taken):.2f}",
                f"{ratios[phase]:.2f}",
                f"{counted[phase] / counted['plain']:.2f}",
                f"{whole:.2f}" if phase == "sub-network" else "",
            )
    console = Console()
    console.print(f"A training step with RePr: 32x32, batch {BATCH}, SGD momentum, float32", style="bold")
    console.print(table)
    console.print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads; medians over rounds of paired ratios."
    )


if __name__ == "__main__":
    main()
