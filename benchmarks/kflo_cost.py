"""What a training step costs with KFLO 2x4, against plain training and against composing as the paper writes it.

``python -m benchmarks.kflo_cost`` prints one table: WRN-16-8 and VGG-16 on 32x32 images, batch 128, SGD with momentum,
bfloat16 autocast, channels_last. All take turns in one process. The arithmetic column is the least that composing in
this way can cost: multiplications of a step relative to the plain step's, counted by torch.
"""

from __future__ import annotations

import copy
import statistics
import sys
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import is_parametrized
from torch.optim import SGD
from torch.utils.flop_counter import FlopCounterMode

import filtersmith as fs
from benchmarks.timing import in_turns
from filtersmith import zoo

DECAY, BATCH = 1e-4, 128
ROUNDS = {"wrn-16-8": 5, "vgg16-kflo": 9}


def naive_kernel(filtered: Tensor, *pointwise: Tensor) -> Tensor:
    """Eqs. (3), (4) as they stand: the kernel as a signal, filtered by pointwise one-dimensional convolutions."""
    rows = filtered.reshape(1, len(filtered), -1)
    for matrix in pointwise:
        rows = F.conv1d(rows, matrix[:, :, None])
    return rows.view(-1, *filtered.shape[1:])


def expanded(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if is_parametrized(module, "weight")]


def training_step(model: nn.Module, groups: list[dict[str, object]], batch: int, penalty: bool) -> Callable[[], None]:
    optimizer = SGD(groups, lr=1e-3, momentum=0.9)
    images = torch.randn(batch, 3, 32, 32).to(memory_format=torch.channels_last)
    labels = torch.randint(10, (batch,))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(model(images).float(), labels)
            if penalty:
                loss = loss + DECAY / 2 * sum(m.weight.float().square().sum() for m in expanded(model))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def steps(name: str, batch: int) -> dict[str, Callable[[], None]]:
    """Plain, KFLO, collapsed KFLO, and the naive versions of one network."""
    plain = zoo.build(name).to(memory_format=torch.channels_last)
    kflo = fs.expand(copy.deepcopy(plain), fs.KFLO(depth=2, width=4))
    deployed = fs.collapse(kflo)
    naive = copy.deepcopy(kflo)
    for layer in expanded(naive):
        layer.parametrizations.weight[0].forward = naive_kernel
    return {
        "plain": training_step(plain, fs.param_groups(plain, DECAY), batch, False),
        "KFLO 2x4": training_step(kflo, fs.param_groups(kflo, DECAY), batch, False),
        "collapsed": training_step(deployed, fs.param_groups(deployed, DECAY), batch, False),
        "naive, penalty in the loss": training_step(naive, [{"params": list(naive.parameters())}], batch, True),
        "naive, no decay": training_step(
            copy.deepcopy(naive), [{"params": list(naive.parameters())}], batch, False
        ),
    }


def flops(step: Callable[[], None]) -> int:
    with FlopCounterMode(display=False) as counter:
        step()
    return int(counter.get_total_flops())


def main() -> None:
    batch = int(sys.argv[1]) if len(sys.argv) > 1 else BATCH
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("network", "step", "s", "× plain", "extra ÷ naive's", "arithmetic ×"):
        table.add_column(column, justify="left" if column in ("network", "step") else "right")
    for name, rounds in ROUNDS.items():
        torch.manual_seed(0)
        runs = steps(name, batch)
        bound = {kind: flops(run) for kind, run in runs.items()}
        times = in_turns(runs, rounds)
        plain, naive = times["plain"], times["naive, penalty in the loss"]
        for kind, taken in times.items():
            ratio = statistics.median(t / p for t, p in zip(taken, plain, strict=True))
            extra = statistics.median(
                (t - p) / (n - p) for t, p, n in zip(taken, plain, naive, strict=True)
            )
            table.add_row(
                name if kind == "plain" else "",
                kind,
                f"{statistics.median(taken):.2f}",
                f"{ratio:.2f}",
                f"{extra:.2f}" if kind == "KFLO 2x4" else "",
                f"{bound[kind] / bound['plain']:.2f}",
            )
    console = Console()
    console.print(f"A training step with KFLO: 32x32, batch {batch}, SGD momentum, bfloat16 autocast", style="bold")
    console.print(table)
    console.print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; medians over rounds of paired ratios.")
    network = zoo.build("vgg16-kflo").eval()
    deployed = fs.collapse(fs.expand(copy.deepcopy(network), fs.KFLO()))
    same = sum(p.numel() for p in deployed.parameters()) == sum(p.numel() for p in network.parameters())
    console.print(f"Collapsed, the network has the plain one's parameters: {'yes' if same else 'NO'}.")


if __name__ == "__main__":
    started = time.perf_counter()
    main()
    print(f"{time.perf_counter() - started:.0f} s")
