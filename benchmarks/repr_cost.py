"""What a training step costs in RePr's two phases, against plain training.

``python -m benchmarks.repr_cost`` prints one table: C^3(128) and VGG-16 on 32x32 images, batch 128, SGD with
momentum, float32, channels_last; ``--device cuda`` under bfloat16 autocast. 30% of the filters are left out at
random, the first layer is whole. All take turns in one process. The arithmetic column is the least that the
sub-network can cost: the multiplications of a step relative to the plain step's, as torch counts them. The last
column is a whole training of 100 epochs with the paper's phases, 70 full ones and 30 of the sub-network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional as F
from torch.optim import SGD

import filtersmith as fs
from benchmarks.timing import Measured, Ratio, command, flops, in_turns
from filtersmith import zoo

BATCH, ROUNDS = 128, 7
NETWORKS = {"vanilla-3-128": "C^3(128)", "vgg16-kflo": "VGG-16"}
PHASES = {"plain": "plain", "full": "RePr, full", "sub-network": "RePr, sub-network"}
SUB_SHARE = 0.3
"""Of the epochs: three phases of 10 in 100 (RePr, Fig. 1)."""


def training_step(name: str, phase: str, batch: int, device: str) -> Callable[[], None]:
    torch.manual_seed(0)
    model = zoo.build(name).to(device, memory_format=torch.channels_last)
    optimizer = SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    images = torch.randn(batch, 3, 32, 32, device=device).to(memory_format=torch.channels_last)
    labels = torch.randint(10, (batch,), device=device)
    if phase != "plain":
        cycle = fs.RePr(model, optimizer, s1=1, s2=1, prune=0.3, rank="random")
        if phase == "sub-network":
            cycle.step()

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(images.device.type, torch.bfloat16, enabled=device != "cpu"):
            outputs = model(images)
        F.cross_entropy(outputs.float(), labels).backward()
        optimizer.step()

    return step


def measure(device: str, names: Sequence[str], batch: int, rounds: int) -> Measured:
    rows: list[tuple[str | None, ...]] = []
    for name in names:
        steps = {phase: training_step(name, phase, batch, device) for phase in PHASES}
        counted = {phase: flops(step) for phase, step in steps.items()}
        times = in_turns(steps, rounds, device=device)
        ratios = {phase: Ratio.of(times["plain"], times[phase]) for phase in ("full", "sub-network")}
        whole = (1 - SUB_SHARE) * ratios["full"].median + SUB_SHARE * ratios["sub-network"].median
        for phase, ratio in ratios.items():
            arithmetic = f"{counted[phase] / counted['plain']:.2f}"
            all_of_it = f"{whole:.2f}" if phase == "sub-network" else None
            rows.append((NETWORKS[name], PHASES[phase], str(ratio), arithmetic, all_of_it))
    precision = "float32" if device == "cpu" else "bfloat16"
    title = (
        f"A training step with RePr, relative to the plain step: 32x32, batch {batch}, SGD with momentum, {precision}"
    )
    columns = ("Network", "Step", "Time ×, quartiles", "Arithmetic ×", "Training ×")
    return Measured(f"repr-{device}", title, columns, tuple(rows), text_columns=2)


if __name__ == "__main__":
    command(__doc__, lambda device: measure(device, list(NETWORKS), BATCH, ROUNDS))
