"""How the cost of the methods grows with filters, layers, parameters and batch size.

``python -m benchmarks.growth`` prints one table: milliseconds of each piece of work at several sizes, and the
exponent that fits them best (1: proportional). What a step of WAU takes, RePr's ranking and what it brings back,
KFLO's composition with its backward pass, and the orthogonality of an audit; two threads, float32. A plain step is
there for comparison. The last row is the orthogonality of a network with 100 million parameters, with the memory that
it takes.
"""

from __future__ import annotations

import math
import resource
import statistics
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.optim import SGD

import filtersmith as fs
from benchmarks.timing import Measured, Run, arguments, seconds
from filtersmith.methods.kflo import compose

REPEATS = 5
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
    model = chain(layers, filters)
    optimizer, images = optimizer_of(model), torch.randn(batch, 3, 16, 16)

    def step() -> None:
        optimizer.zero_grad()
        model(images).square().mean().backward()
        optimizer.step()

    return step


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


def composition(filters: int = 64) -> Run:
    filtered = torch.randn(4 * filters, filters, 3, 3, requires_grad=True)
    mixing = torch.randn(filters, 4 * filters, requires_grad=True)
    return lambda: compose(filtered, [mixing]).sum().backward()


def audit(layers: int = 4, filters: int = 64) -> Run:
    model = chain(layers, filters)
    return lambda: fs.measure.orthogonality(model)


Make = Callable[[int], Run]
CURVES: tuple[tuple[str, str, tuple[int, ...], Make], ...] = (
    ("plain step, batch 8", "filters", FILTERS[:4], lambda n: plain_step(filters=n)),
    ("plain step, batch 8", "layers", LAYERS, lambda n: plain_step(layers=n)),
    ("plain step", "batch", BATCHES, lambda n: plain_step(batch=n)),
    ("optimizer's step with WAU", "filters", FILTERS, lambda n: wau(filters=n)),
    ("optimizer's step with WAU", "layers", LAYERS, lambda n: wau(layers=n)),
    ("RePr: ranking", "filters", FILTERS, lambda n: ranking(filters=n)),
    ("RePr: ranking", "layers", LAYERS, lambda n: ranking(layers=n)),
    ("RePr: pruning and restoring", "filters", FILTERS, lambda n: pruned_and_restored(filters=n)),
    ("RePr: pruning and restoring", "layers", LAYERS, lambda n: pruned_and_restored(layers=n)),
    ("KFLO 2x4: composition, backward", "filters", FILTERS, lambda n: composition(filters=n)),
    ("audit: orthogonality", "filters", FILTERS, lambda n: audit(filters=n)),
    ("audit: orthogonality", "layers", LAYERS, lambda n: audit(layers=n)),
)


def exponent(sizes: tuple[int, ...], taken: list[float]) -> float:
    """The slope of a line through the logarithms.

    >>> round(exponent((1, 2, 4), [3.0, 12.0, 48.0]), 6)
    2.0
    """
    return statistics.linear_regression([math.log(n) for n in sizes], [math.log(t) for t in taken]).slope


def rows() -> Iterator[tuple[str | None, ...]]:
    for what, over, sizes, make in CURVES:
        taken = []
        for size in sizes:
            run = make(size)
            run()
            taken.append(statistics.median(seconds(run) for _ in range(REPEATS)))
        first, last = (f"{1e3 * one:.3g}" for one in (taken[0], taken[-1]))
        yield what, over, f"{sizes[0]} to {sizes[-1]}", first, last, f"{exponent(sizes, taken):.2f}"
    layers = round(LARGE / (9 * 1024**2))
    run, before = audit(layers=layers, filters=1024), peak()
    taken_once = seconds(run)
    what = f"audit: orthogonality of 100 M parameters, {peak() - before:.1f} GB more"
    yield what, "—", f"{layers} layers of 1024", f"{1e3 * taken_once:.3g}", None, None


def peak() -> float:
    """The most memory that this process has had, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    asked = arguments(__doc__)
    torch.set_num_threads(2)
    torch.manual_seed(0)
    columns = ("Work", "Over", "Sizes", "First, ms", "Last, ms", "Exponent")
    title = "How costs grow: convolutions of 3x3 in a chain, 4 layers of 64 filters where nothing else is said"
    found = Measured("growth", title, columns, tuple(rows()), text_columns=3)
    found.show()
    if asked.write:
        found.write("cpu")


if __name__ == "__main__":
    main()
