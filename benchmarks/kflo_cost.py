"""What a training step costs with KFLO 2x4, against plain training and against composing as the paper writes it.

``python -m benchmarks.kflo_cost`` prints one table: WRN-16-8 and VGG-16 on 32x32 images, batch 128, SGD with
momentum, bfloat16 autocast, channels_last; ``--device cuda`` has WRN-28-10 in the place of WRN-16-8. All take turns
in one process. The arithmetic column is what composing in this way costs by its multiplications: those of a step
relative to the plain step's, as torch counts them. Memory is that at the peak of a step. The naive versions compose
by conv1d (Eqs. 3, 4); the paper's decay is a penalty in their loss, for which the kernels are composed again. What is
collapsed is timed in evaluation, against the plain network. The column "÷ naive" is the extra time as a part of the
naive version's.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import is_parametrized
from torch.optim import SGD

import filtersmith as fs
from benchmarks.memory import of_a_step
from benchmarks.timing import Measured, Ratio, Run, command, flops, in_turns
from filtersmith import zoo

DECAY, BATCH = 1e-4, 128
TITLES = {"wrn-16-8": "WRN-16-8", "wrn-28-10": "WRN-28-10", "vgg16-kflo": "VGG-16"}
NETWORKS = {"cpu": ("wrn-16-8", "vgg16-kflo"), "cuda": ("wrn-28-10", "vgg16-kflo")}
ROUNDS = 7
NAIVE = "naive, decay in loss"
Penalty = Literal["float32", "autocast"]


def naive_kernel(filtered: Tensor, *pointwise: Tensor) -> Tensor:
    """Eqs. (3), (4) as they stand: the kernel as a signal, filtered by pointwise one-dimensional convolutions."""
    rows = filtered.reshape(1, len(filtered), -1)
    for matrix in pointwise:
        rows = F.conv1d(rows, matrix[:, :, None])
    return rows.view(-1, *filtered.shape[1:])


def expanded(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if is_parametrized(module, "weight")]


def training_step(model: nn.Module, batch: int, penalty: Penalty | None = None) -> tuple[SGD, Callable[[], None]]:
    """One step; the loss is outside of autocast, as accelerate has it, unless the penalty is meant to be inside."""
    naive = any("naive" in vars(layer) for layer in expanded(model))
    groups = [{"params": list(model.parameters())}] if naive else fs.param_groups(model, DECAY)
    optimizer = SGD(groups, lr=1e-3, momentum=0.9)
    device = next(model.parameters()).device
    images = torch.randn(batch, 3, 32, 32, device=device).to(memory_format=torch.channels_last)
    labels = torch.randint(10, (batch,), device=device)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            outputs = model(images)
            loss = decay(model) if penalty == "autocast" else 0
        if penalty == "float32":
            loss = decay(model)
        optimizer.zero_grad()
        (loss + F.cross_entropy(outputs.float(), labels)).backward()
        optimizer.step()

    return optimizer, step


def decay(model: nn.Module) -> Tensor:
    """The paper's penalty of the generated kernels."""
    return DECAY / 2 * torch.stack([layer.weight.float().square().sum() for layer in expanded(model)]).sum()


def make_naive(kflo: nn.Module) -> nn.Module:
    model = copy.deepcopy(kflo)
    for layer in expanded(model):
        layer.naive = True
        layer.parametrizations.weight[0].forward = naive_kernel
    return model


def compared(plain: nn.Module, kflo: nn.Module) -> dict[str, tuple[nn.Module, Penalty | None]]:
    """The networks whose steps are compared, and the penalties in their losses."""
    return {
        "plain": (plain, None),
        "KFLO 2x4": (kflo, None),
        NAIVE: (make_naive(kflo), "float32"),
        "naive, in autocast": (make_naive(kflo), "autocast"),
        "naive, no decay": (make_naive(kflo), None),
    }


def deployed(plain: nn.Module, kflo: nn.Module, batch: int, rounds: int, device: str) -> Ratio:
    """Time of the collapsed network relative to the plain one, in evaluation mode."""
    images = torch.randn(batch, 3, 32, 32, device=device).to(memory_format=torch.channels_last)

    def forward(model: nn.Module) -> Run:
        model = copy.deepcopy(model).eval()

        def run() -> None:
            with torch.no_grad(), torch.autocast(images.device.type, torch.bfloat16):
                model(images)

        return run

    times = in_turns({"plain": forward(plain), "collapsed": forward(fs.collapse(kflo))}, rounds, device=device)
    return Ratio.of(times["plain"], times["collapsed"])


def rows_of(name: str, batch: int, rounds: int, device: str) -> list[tuple[str | None, ...]]:
    torch.manual_seed(0)
    plain = zoo.build(name).to(device, memory_format=torch.channels_last)
    kflo = fs.expand(copy.deepcopy(plain), fs.KFLO(depth=2, width=4))
    collapsed = deployed(plain, kflo, batch, 3 * rounds, device)
    runs, bytes_at_peak = {}, {}
    for kind, (model, penalty) in compared(plain, kflo).items():
        optimizer, runs[kind] = training_step(model, batch, penalty)
        bytes_at_peak[kind] = of_a_step(model, optimizer, runs[kind], device)
    counted = {kind: flops(run) for kind, run in runs.items()}
    times = in_turns(runs, rounds, warm_up=1, device=device)
    naive = Ratio.of(times["plain"], times[NAIVE]).median - 1
    found: list[tuple[str | None, ...]] = []
    for kind in [kind for kind in runs if kind != "plain"]:
        ratio = Ratio.of(times["plain"], times[kind])
        arithmetic, memory = (f"{of[kind] / of['plain']:.2f}" for of in (counted, bytes_at_peak))
        found.append((TITLES[name], kind, str(ratio), f"{(ratio.median - 1) / naive:.2f}", arithmetic, memory))
    return [*found, (TITLES[name], "collapsed, eval", str(collapsed), None, None, None)]


def measure(device: str, names: Sequence[str], batch: int, rounds: int) -> Measured:
    rows = [row for name in names for row in rows_of(name, batch, rounds, device)]
    title = (
        f"A training step with KFLO, relative to the plain step: 32x32, batch {batch}, SGD with momentum, bfloat16"
    )
    columns = ("Network", "Step", "Time ×, quartiles", "÷ naive", "Arith. ×", "Memory ×")
    return Measured(f"kflo-{device}", title, columns, tuple(rows), text_columns=2)


if __name__ == "__main__":
    command(__doc__, lambda device: measure(device, NETWORKS[device], BATCH, ROUNDS))
