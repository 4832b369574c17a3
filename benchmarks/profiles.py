"""Where the time goes, before and after what was made faster: profiles of torch, in milliseconds of a step.

``python -m benchmarks.profiles`` prints three tables: a step of ResNet-18 (32x32, batch 64, float32, channels_last,
two threads) without WAU and with ``mode="skip"``; a step of VGG-16 with KFLO 2x4 whose gradients accumulate over four
batches of 32, each with a composition of its own and with one for all; and how many operations an optimizer's step
with WAU begins, layer by layer and for all layers together, which is what costs time on a GPU.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from unittest.mock import patch

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import SGD
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

import filtersmith as fs
from benchmarks.step_cost import NETWORKS, step_of
from benchmarks.timing import Measured, Run, arguments
from filtersmith import zoo
from filtersmith.optim import hold
from filtersmith.reparam.reuse import Reuse

WARM_UP, STEPS, SHOWN = 2, 8, 8


def milliseconds(runs: Mapping[str, Run]) -> dict[str, dict[str, float]]:
    """Of each operation in one step, without those that it begins, and of all; the runs take turns."""
    found: dict[str, dict[str, float]] = {kind: {} for kind in runs}
    for turn in range(WARM_UP + STEPS):
        for kind, run in runs.items():
            with profile(activities=[ProfilerActivity.CPU]) as profiler:
                run()
            if turn < WARM_UP:
                continue
            for one in profiler.key_averages():
                for key in ("all", one.key):
                    found[kind][key] = found[kind].get(key, 0) + one.self_cpu_time_total / 1e3 / STEPS
    return found


def beside(name: str, title: str, runs: Mapping[str, Run]) -> Measured:
    """Two profiles: the operations that take the longest, and all."""
    old, new = milliseconds(runs).values()
    longest = sorted(old.keys() | new.keys(), key=lambda key: -max(old.get(key, 0), new.get(key, 0)))
    rows = [(key, f"{old.get(key, 0):.1f}", f"{new.get(key, 0):.1f}") for key in longest[: SHOWN + 1]]
    return Measured(name, title, ("Operation", *runs), tuple(rows))


def skipping() -> Measured:
    torch.manual_seed(0)
    model = zoo.build("torchvision:resnet18", num_classes=10, small_images=True).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    runs = [step_of(model, method, 64, autocast=False) for method in (None, lambda m: fs.WAU(m, 0.5, mode="skip"))]
    title = "Profile of a step of ResNet-18, 32x32, batch 64, float32, ms"
    return beside("profile-wau", title, {"plain": runs[0], "WAU, mode=skip": runs[1]})


def accumulating(model: nn.Module) -> Run:
    optimizer = SGD(model.parameters(), lr=1e-4, momentum=0.9)
    images = torch.randn(4, 32, 3, 32, 32)
    labels = torch.randint(10, (4, 32))

    def step() -> None:
        optimizer.zero_grad()
        for some, of_them in zip(images, labels, strict=True):
            with torch.autocast("cpu", torch.bfloat16):
                outputs = model(some.to(memory_format=torch.channels_last))
            F.cross_entropy(outputs.float(), of_them).backward()
        optimizer.step()

    return step


def composing() -> Measured:
    torch.manual_seed(0)
    model = fs.expand(zoo.build("vgg16-kflo").to(memory_format=torch.channels_last), fs.KFLO(depth=2, width=4))  # type: ignore[call-overload]
    once, each = accumulating(model), accumulating(copy.deepcopy(model))

    def in_each_batch() -> None:
        with patch.object(Reuse, "__call__", lambda self, compute, parameters: compute(*parameters)):
            each()

    title = "Profile of a step of VGG-16 with KFLO 2x4, four batches of 32 accumulated, bfloat16, ms"
    return beside("profile-kflo", title, {"composed in each batch": in_each_batch, "composed once": once})


class Operations(TorchDispatchMode):
    """Counts what is begun; views are no work for a device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Callable[..., object], types: object, args=(), kwargs=None) -> object:  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        self.count += not func.is_view  # type: ignore[attr-defined]
        return result


def begun() -> Measured:
    rows = []
    for name, title in NETWORKS.items():
        counts = {}
        for kind, together in (("plain", None), ("layer by layer", set[str]()), ("together", {"cpu"})):
            options = {"small_images": True} if name.startswith("torchvision:") else {}
            model = zoo.build(name, num_classes=10, **options)
            optimizer = SGD(model.parameters(), lr=1e-4, momentum=0.9, foreach=True)
            for parameter in model.parameters():
                parameter.grad = torch.zeros_like(parameter)
            with patch.object(hold, "TOGETHER", together or set()):
                if together is not None:
                    fs.WAU(model, 0.5).attach(optimizer)
                optimizer.step()
                with Operations() as operations:
                    optimizer.step()
            counts[kind] = operations.count
        rows.append((title, *(str(count) for count in counts.values())))
    title = "Operations that an optimizer's step begins, drawing included: SGD (foreach), WAU at rate 0.5"
    return Measured(
        "operations", title, ("Network", "Plain", "WAU, layer by layer", "WAU, all layers together"), tuple(rows)
    )


def main() -> None:
    asked = arguments(__doc__)
    torch.set_num_threads(2)
    for measure in (skipping, composing, begun):
        found = measure()
        found.show()
        print()
        if asked.write:
            found.write("cpu")


if __name__ == "__main__":
    main()
