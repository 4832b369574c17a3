"""What is fast on a GPU computes what the slow way does; then what it costs there: one command of about five minutes.

``python -m benchmarks.on_gpu`` checks on a CUDA device, prints a line for each check, and prints the tables of
`benchmarks.step_cost`, `kflo_cost`, `repr_cost`, `lab_overhead`, `compile_once` and `side_by_side`, with fewer rounds
and steps timed by the device's clock; ``--write`` keeps them in results/performance. Where a check fails the tables
are printed all the same, and the exit status is 1. ``--device cpu`` does all of it at a tiny size, so that the
script is known to run before a GPU is at hand.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, Optimizer

import filtersmith as fs
from benchmarks import compile_once, kflo_cost, lab_overhead, repr_cost, side_by_side, step_cost
from benchmarks.timing import Measured, arguments
from filtersmith import zoo
from filtersmith.filters.part_gradient import convolve
from filtersmith.methods.kflo import compose
from filtersmith.optim import hold

GEOMETRIES = {
    "3x3": ((16, 8, 3, 3), (1, 1), (1, 1), (1, 1)),
    "strided": ((16, 8, 3, 3), (2, 2), (1, 1), (1, 1)),
    "dilated": ((16, 8, 3, 3), (1, 1), (2, 2), (2, 2)),
    "1x1": ((16, 8, 1, 1), (1, 1), (0, 0), (1, 1)),
}
CLOSE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


def close(found: Tensor, expected: Tensor, what: str, tolerance: float = 1e-5) -> None:
    """Relative to the largest value that is expected."""
    off = (found.double() - expected.double()).abs().max() / expected.double().abs().max().clamp(min=1e-30)
    if not off <= tolerance:
        raise SystemExit(f"{what}: off by {off:.2g} of the largest value, more than {tolerance:g}")
    print(f"  {what}: {off:.1g}")


def gradients_of_some_filters(device: str) -> None:
    """`convolve` against torch's gradients, whose other rows are made zeros."""
    for name, (shape, *geometry) in GEOMETRIES.items():
        for dtype, layout in ((torch.float32, torch.channels_last), (torch.bfloat16, torch.contiguous_format)):
            images = torch.randn(4, 8, 14, 14, device=device, dtype=dtype).to(memory_format=layout)
            weight = torch.randn(shape, device=device, dtype=dtype, requires_grad=True)
            active = torch.randperm(16, device=device)[:8]
            stride, padding, dilation = geometry
            outputs = F.conv2d(images, weight, None, stride, padding, dilation)
            up = torch.randn_like(outputs)
            (whole,) = torch.autograd.grad(outputs, weight, up)
            some = convolve(images, weight, None, active, stride, padding, dilation)
            (part,) = torch.autograd.grad(some, weight, up)
            expected = torch.zeros_like(whole).index_copy(0, active, whole[active])
            close(part, expected, f"gradients of half of the filters, {name}, {dtype}", CLOSE[dtype])


def trained(method: Callable[[nn.Module, Optimizer], object], device: str, steps: int = 4) -> nn.Module:
    torch.manual_seed(0)
    model = zoo.build("resnet20").to(device, memory_format=torch.channels_last)
    optimizer = Adam(model.parameters(), lr=1e-2)
    method(model, optimizer)
    for _ in range(steps):
        images = torch.randn(8, 3, 32, 32, device=device).to(memory_format=torch.channels_last)
        optimizer.zero_grad()
        F.cross_entropy(model(images), torch.randint(10, (8,), device=device)).backward()
        optimizer.step()
    return model


def held_together(device: str) -> None:
    """Rows that are kept by a few operations over all layers against those that are kept layer by layer."""
    for mode in ("update", "skip"):

        def wau(model: nn.Module, optimizer: Optimizer, mode: str = mode) -> fs.WAU:
            return fs.WAU(model, 0.5, mode=mode).attach(optimizer)  # type: ignore[arg-type]

        with patch.object(hold, "TOGETHER", set()):
            alone = trained(wau, device)
        with patch.object(hold, "TOGETHER", {torch.device(device).type}):
            together = trained(wau, device)
        for (name, one), other in zip(alone.named_parameters(), together.parameters(), strict=True):
            if not torch.equal(one, other):
                raise SystemExit(f"WAU mode={mode}: {name} is another one where all layers are kept together")
        print(f"  WAU mode={mode}, layers kept together: the same bits")


def skipping_compiled(device: str) -> None:
    """A compiled network that skips against one that is not compiled."""

    def stepped(compiled: bool) -> list[Tensor]:
        torch.manual_seed(0)
        model = zoo.build("vanilla-3-32").to(device)
        optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
        fs.WAU(model, 0.5, mode="skip").attach(optimizer)
        network = torch.compile(model) if compiled else model
        for _ in range(3):
            optimizer.zero_grad()
            network(torch.randn(8, 3, 32, 32, device=device)).square().mean().backward()
            optimizer.step()
        return list(model.parameters())

    flat = [torch.cat([p.detach().flatten() for p in stepped(how)]) for how in (True, False)]
    close(flat[0], flat[1], "WAU mode=skip, three steps, compiled", 1e-4)


def composed(device: str) -> None:
    """KFLO's composition against the paper's one-dimensional convolutions, and the collapsed network."""
    filtered = torch.randn(32, 8, 3, 3, device=device)
    mixing = [torch.randn(32, 32, device=device), torch.randn(8, 32, device=device)]
    close(compose(filtered, mixing), kflo_cost.naive_kernel(filtered, *mixing), "KFLO: composition", 1e-4)
    model = zoo.build("resnet20").to(device)
    kflo = fs.expand(copy.deepcopy(model), fs.KFLO(depth=2, width=4)).eval()
    images = torch.randn(4, 3, 32, 32, device=device)
    with torch.no_grad():
        close(fs.collapse(kflo)(images), kflo(images), "KFLO: collapsed network", 1e-4)


def without_filters(device: str) -> None:
    """RePr's sub-network, which is smaller, against the whole one with what is left out multiplied by 0."""
    torch.manual_seed(0)
    model = zoo.build("vanilla-3-32").to(device)
    whole = copy.deepcopy(model)
    cycle = fs.RePr(model, SGD(model.parameters(), lr=0.1), s1=1, s2=1, prune=0.3, rank="random")
    cycle.step()
    for name, pruned in cycle.pruned.items():
        mask = (~pruned).to(device, torch.float32)
        # A batch norm that is new leaves 0 as it is.
        whole.get_submodule(name).register_forward_hook(partial(times, mask.view(1, -1, 1, 1)))
    images = torch.randn(4, 3, 32, 32, device=device)
    with torch.no_grad():
        close(model.eval()(images), whole.eval()(images), "RePr: sub-network", 1e-4)


def times(mask: Tensor, module: nn.Module, inputs: object, outputs: Tensor) -> Tensor:
    return outputs * mask


CHECKS = (gradients_of_some_filters, held_together, skipping_compiled, composed, without_filters)


def tables(device: str, tiny: bool) -> Iterator[Callable[[], Measured]]:
    """In the order of the parts that they measure."""
    if tiny:
        yield partial(step_cost.measure, device, 2, 2, ("resnet20",))
        yield partial(kflo_cost.measure, device, ("vgg16-kflo",), 2, 2)
        yield partial(repr_cost.measure, device, ("vanilla-3-128",), 2, 2)
        yield partial(lab_overhead.measure, device, 256, 2)
        yield partial(compile_once.measure, device, ("kflo",), 2)
        yield partial(side_by_side.measure, device, ("vanilla-3-32",), (2,), (1, 2), 1)
        return
    yield partial(step_cost.measure, device, 128, 20, step_cost.MEASURED["cuda"])
    yield partial(kflo_cost.measure, device, kflo_cost.NETWORKS["cuda"], 128, 10)
    yield partial(repr_cost.measure, device, list(repr_cost.NETWORKS), 128, 20)
    yield partial(lab_overhead.measure, device, 6_400, 15)
    yield partial(compile_once.measure, device, ("baseline", "kflo"), 3)
    yield partial(side_by_side.measure, device, list(side_by_side.NETWORKS), (4, 8), (5, 55), 1)


def failures(device: str) -> list[str]:
    """What the checks say of what is wrong."""
    found = []
    for check in CHECKS:
        print((check.__doc__ or "").strip())
        try:
            check(device)
        except SystemExit as error:
            print(f"  FAILED: {error}")
            found.append(str(error))
    return found


def main() -> None:
    asked = arguments(__doc__, device=True, default="cuda")
    start, tiny = time.perf_counter(), asked.device == "cpu"
    # What is checked is neither the precision of a convolution nor the order in which one adds up.
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        failed = failures(asked.device)
    for measure in tables(asked.device, tiny):
        print(f"\n{time.perf_counter() - start:.0f} s")
        found = measure()
        found.show()
        if asked.write and not tiny:
            found.write(asked.device)
    print(f"\nAll of it took {time.perf_counter() - start:.0f} s.")
    if failed:
        sys.exit("\n".join(["failed:", *failed]))


if __name__ == "__main__":
    main()
