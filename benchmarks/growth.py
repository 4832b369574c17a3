"""How the cost of the methods grows with filters, layers, parameters and batch size.

``python -m benchmarks.growth`` prints one table: milliseconds of each piece of work at the smallest and the largest
size, and the exponents that fit all sizes best (1: proportional), against what grows and against the parameters that
the network then has. What a step of WAU takes, RePr's ranking and what it brings back, KFLO's composition with its
backward pass, and the orthogonality of an audit; two threads, float32. A plain step is there for comparison. Below
the table stands the orthogonality of a network with 100 million parameters, with the memory that it takes.
``--write`` keeps every size, for the picture that ``scripts/draw_growth.py`` draws.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import SGD

import filtersmith as fs
from benchmarks.memory import peak
from benchmarks.timing import Measured, Run, arguments, in_turns, seconds
from filtersmith.methods.kflo import compose

ROUNDS = 7
FILTERS, LAYERS, BATCHES = (64, 128, 256, 512, 1024), (4, 8, 16, 32, 64), (8, 16, 32, 64, 128)
LARGE = 100_000_000


def chain(layers: int, filters: int) -> nn.Sequential:
    """Convolutions of 3x3 behind one another, with batch norms."""
    parts: list[nn.Module] = [nn.Conv2d(3, filters, 3, padding=1)]
    for _ in range(layers - 1):
        parts += [nn.BatchNorm2d(filters), nn.ReLU(), nn.Conv2d(filters, filters, 3, padding=1)]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(filters, 10))


def optimizer_of(model: nn.Module) -> SGD:
    """With gradients, after a first step."""
    optimizer = SGD(model.parameters(), lr=1e-4, momentum=0.9)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    return optimizer


def plain_step(layers: int = 4, filters: int = 64, batch: int = 8) -> Run:
    return step_of(chain(layers, filters), batch)


def step_of(model: nn.Module, batch: int, method: Callable[[SGD], object] | None = None) -> Run:
    """A training step, with what a method attaches to its optimizer."""
    optimizer, images = optimizer_of(model), torch.randn(batch, 3, 16, 16)
    if method is not None:
        method(optimizer)

    def step() -> None:
        optimizer.zero_grad()
        model(images).square().mean().backward()
        optimizer.step()

    return step


def wau_step(batch: int, mode: Literal["update", "skip"]) -> Run:
    model = chain(4, 64)
    return step_of(model, batch, fs.WAU(model, mode=mode).attach)


def kflo_step(batch: int) -> Run:
    return step_of(fs.expand(chain(4, 64), fs.KFLO()), batch)


def wau(layers: int = 4, filters: int = 64) -> Run:
    model = chain(layers, filters)
    optimizer = optimizer_of(model)
    fs.WAU(model).attach(optimizer)
    return optimizer.step


def ranking(layers: int = 4, filters: int = 64) -> Run:
    model = chain(layers, filters)
    return lambda: fs.rank(model, "ortho")


def pruned_and_restored(layers: int = 4, filters: int = 64) -> Run:
    model = chain(layers, filters)
    cycle = fs.RePr(model, optimizer_of(model), s1=1, s2=1, cycles=10**6, rank="random", prune=0.3)

    def twice() -> None:
        cycle.step()
        cycle.step()

    return twice


def composition(layers: int = 4, filters: int = 64) -> Run:
    def factors() -> tuple[Tensor, Tensor]:
        filtered = torch.randn(4 * filters, filters, 3, 3, requires_grad=True)
        return filtered, torch.randn(filters, 4 * filters, requires_grad=True)

    of_all = [factors() for _ in range(layers)]

    def run() -> None:
        for filtered, mixing in of_all:
            compose(filtered, [mixing]).sum().backward()

    return run


def audit(layers: int = 4, filters: int = 64) -> Run:
    model = chain(layers, filters)
    return lambda: fs.measure.orthogonality(model)


@dataclass(frozen=True)
class Curve:
    """Work that is done at several sizes of what grows: ``filters``, ``layers`` or ``batch``."""

    work: str
    over: Literal["filters", "layers", "batch"]
    sizes: tuple[int, ...]
    make: Callable[[int], Run]

    def parameters(self, size: int) -> int | None:
        """Of the network of a size, or None where it stays the same."""
        if self.over == "batch":
            return None
        with torch.device("meta"):
            network = chain(4, size) if self.over == "filters" else chain(size, 64)
        return sum(parameter.numel() for parameter in network.parameters())


CURVES = (
    Curve("plain step, batch 8", "filters", FILTERS[:4], lambda n: plain_step(filters=n)),
    Curve("WAU: optimizer's step", "filters", FILTERS, lambda n: wau(filters=n)),
    Curve("RePr: ranking", "filters", FILTERS, lambda n: ranking(filters=n)),
    Curve("RePr: prune, restore", "filters", FILTERS, lambda n: pruned_and_restored(filters=n)),
    Curve("KFLO: compose, backward", "filters", FILTERS, lambda n: composition(filters=n)),
    Curve("audit: orthogonality", "filters", FILTERS, lambda n: audit(filters=n)),
    Curve("plain step, batch 8", "layers", LAYERS, lambda n: plain_step(layers=n)),
    Curve("WAU: optimizer's step", "layers", LAYERS, lambda n: wau(layers=n)),
    Curve("RePr: ranking", "layers", LAYERS, lambda n: ranking(layers=n)),
    Curve("RePr: prune, restore", "layers", LAYERS, lambda n: pruned_and_restored(layers=n)),
    Curve("KFLO: compose, backward", "layers", LAYERS, lambda n: composition(layers=n)),
    Curve("audit: orthogonality", "layers", LAYERS, lambda n: audit(layers=n)),
    Curve("plain step", "batch", BATCHES, lambda n: plain_step(batch=n)),
    Curve("step with WAU, update", "batch", BATCHES, lambda n: wau_step(n, "update")),
    Curve("step with WAU, skip", "batch", BATCHES, lambda n: wau_step(n, "skip")),
    Curve("step with KFLO 2x4", "batch", BATCHES, kflo_step),
)


def exponent(sizes: Sequence[int], taken: Sequence[float]) -> float:
    """The slope of a line through the logarithms.

    >>> round(exponent((1, 2, 4), [3.0, 12.0, 48.0]), 6)
    2.0
    """
    return statistics.linear_regression([math.log(n) for n in sizes], [math.log(t) for t in taken]).slope


def milliseconds(curves: Sequence[Curve]) -> dict[str, list[float]]:
    """Of the curves over one and the same, by their work: medians. At each size they take turns."""
    taken: dict[str, list[float]] = {curve.work: [] for curve in curves}
    for size in sorted({size for curve in curves for size in curve.sizes}):
        runs = {curve.work: curve.make(size) for curve in curves if size in curve.sizes}
        for work, times in in_turns(runs, ROUNDS, warm_up=1).items():
            taken[work].append(1e3 * statistics.median(times))
    return taken


def points() -> Iterator[dict[str, Any]]:
    """Every curve with its milliseconds and exponents."""
    for over in dict.fromkeys(curve.over for curve in CURVES):
        curves = [curve for curve in CURVES if curve.over == over]
        taken = milliseconds(curves)
        for curve in curves:
            parameters = [count for size in curve.sizes if (count := curve.parameters(size))]
            yield {
                "work": curve.work,
                "over": over,
                "sizes": curve.sizes,
                "ms": [float(f"{one:.3g}") for one in taken[curve.work]],
                "exponent": round(exponent(curve.sizes, taken[curve.work]), 2),
                "of_parameters": round(exponent(parameters, taken[curve.work]), 2) if parameters else None,
            }


def row(point: Mapping[str, Any]) -> tuple[str | None, ...]:
    sizes, taken, by_parameters = point["sizes"], point["ms"], point["of_parameters"]
    ends = (f"{ends[0]:g} to {ends[-1]:g}" for ends in (sizes, taken))
    exponents = (None if one is None else f"{one:.2f}" for one in (point["exponent"], by_parameters))
    return point["work"], point["over"], *ends, *exponents


def large() -> str:
    """The orthogonality of a network of 100 million parameters, in words."""
    layers = round(LARGE / (9 * 1024**2))
    run = audit(layers=layers, filters=1024)
    run()
    taken, most = statistics.median(seconds(run) for _ in range(ROUNDS)), peak(run, "cpu")
    return (
        f"The orthogonality of {layers} layers of 1,024 filters, {LARGE // 10**6} million parameters, takes "
        f"{taken:.1f} s and {most / 1e6:.0f} MB beside the network's {4 * LARGE / 1e6:.0f} MB."
    )


def main() -> None:
    asked = arguments(__doc__)
    torch.set_num_threads(2)
    torch.manual_seed(0)
    columns = ("Work", "Over", "Sizes", "ms", "Exponent", "of params")
    title = "How costs grow: convolutions of 3x3 in a chain, 4 layers of 64 filters where nothing else is said"
    curves = tuple(points())
    found = Measured("growth", title, columns, tuple(map(row, curves)), 3, (large(),), curves)
    found.show()
    if asked.write:
        found.write("cpu")


if __name__ == "__main__":
    main()
