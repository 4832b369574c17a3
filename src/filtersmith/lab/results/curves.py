"""The curves of the report, by epoch: the mean over the seeds, and the band from the lowest to the highest."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from filtersmith.lab.results import filters
from filtersmith.lab.results.document import Comparison, Epoch
from filtersmith.lab.results.figures import Style, as_source, empty_figure, plain_text
from filtersmith.lab.results.picture import Cell, Picture, as_csv
from filtersmith.lab.results.statistics import finished_runs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_BANDS = 8
"""Methods up to which bands are drawn; those of more cover each other and the lines."""
ZOOM_FROM = 8
"""Epochs from which a second accuracy figure shows the last half alone, where the methods differ least."""


@dataclass(frozen=True)
class Curve:
    """Mean, lowest and highest value over the finished seeds of one method, by epoch."""

    method: str
    epochs: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    phase_starts: tuple[int, ...]
    sub_phases: tuple[tuple[int, int], ...]


def curve_pictures(comparison: Comparison, styles: dict[str, Style], *, named: bool = False) -> list[Picture]:
    """The test score, its last half where there are epochs enough, and training loss.

    ``named``: with the caption and the methods' names, for pictures that stand without the page.
    """
    accuracy = curves(comparison, lambda epoch: 100 * epoch.test_accuracy)
    loss = curves(comparison, lambda epoch: epoch.train_loss)
    caption = f"Test {comparison.about.score}, %"
    wanted = [(caption, accuracy, 1, ".2f")]
    if comparison.epochs >= ZOOM_FROM:
        wanted.append((f"{caption}, last half", accuracy, comparison.epochs // 2 + 1, ".2f"))
    wanted.append(("Training loss", loss, 1, ".3g"))
    return [curve_picture(caption, lines, styles, form, first, named=named) for caption, lines, first, form in wanted]


def filter_pictures(comparison: Comparison, styles: dict[str, Style], *, named: bool = False) -> list[Picture]:
    """What filters did, by epoch; none where nothing was recorded."""
    if not filters.audited(comparison):
        return []
    found = [(caption, curves(comparison, filters.of_epoch(value))) for caption, value in filters.CURVES]
    return [curve_picture(caption, lines, styles, ".4g", named=named) for caption, lines in found]


def curve_picture(
    caption: str, lines: Sequence[Curve], styles: dict[str, Style], form: str, first: int = 1, *, named: bool = False
) -> Picture:
    """The figure of curves from epoch `first` on; `form` is that of a number in its description."""
    figure = draw(lines, styles, first)
    if named:
        figure.suptitle(caption, fontsize=9)
        figure.set_figheight(figure.get_figheight() + 0.2 * (1 + len(lines) // 2))
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return Picture(
        f"{caption}, by epoch",
        f"{caption}, by epoch; {_ends(lines, form)}",
        curves_csv(lines, first),
        as_source(figure),
    )


def curves_csv(curves: Sequence[Curve], first: int = 1) -> str:
    """What the figure shows, a row for each method and epoch; a gap is empty."""
    rows: list[list[Cell]] = []
    for curve in curves:
        for epoch, *values in zip(curve.epochs, curve.mean, curve.low, curve.high, strict=True):
            if epoch >= first:
                rows.append([curve.method, epoch, *(None if math.isnan(v) else round(v, 6) for v in values)])
    return as_csv(("method", "epoch", "mean", "lowest seed", "highest seed"), rows)


def _ends(curves: Sequence[Curve], form: str) -> str:
    known = [(curve.method, curve.mean[-1]) for curve in curves if not math.isnan(curve.mean[-1])]
    return "mean after the last epoch: " + (", ".join(f"{m} {mean:{form}}" for m, mean in known) or "not known")


def curves(comparison: Comparison, value: Callable[[Epoch], float | None]) -> list[Curve]:
    """The curves of the methods that have finished runs; a value that is None leaves a gap."""
    found = []
    for method in comparison.methods:
        if runs := list(finished_runs(comparison, method).values()):
            by_epoch = [[value(epoch) for epoch in run.epochs] for run in runs]
            starts = [start for run in runs for start in run.phase_starts]
            found.append(curve_of(method, by_epoch, starts, [phase for run in runs for phase in run.sub_phases]))
    return found


def curve_of(
    method: str,
    runs: Sequence[Sequence[float | None]],
    phase_starts: Sequence[int],
    sub_phases: Sequence[tuple[int, int]],
) -> Curve:
    """The curve of runs of equal length; where none of them has a value there is a gap."""
    gap = float("nan")
    known = [[v for v in column if v is not None] for column in zip(*runs, strict=True)]
    return Curve(
        method=method,
        epochs=tuple(range(1, len(known) + 1)),
        mean=tuple(sum(values) / len(values) if values else gap for values in known),
        low=tuple(min(values, default=gap) for values in known),
        high=tuple(max(values, default=gap) for values in known),
        phase_starts=tuple(sorted(set(phase_starts))),
        sub_phases=tuple(sorted(set(sub_phases))),
    )


def draw(curves: Sequence[Curve], styles: dict[str, Style], first: int = 1) -> Figure:
    """A figure of the curves from epoch `first` on: the mean as a line, of a few methods with a band."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = empty_figure()
    # Methods that share their phases share the shade.
    for start, stop in sorted({phase for curve in curves for phase in curve.sub_phases}):
        if stop >= first:
            axes.axvspan(max(start + 0.5, first), stop + 0.5, color="#000000", alpha=0.07, linewidth=0)
    for curve in curves:
        _draw_curve(axes, curve, styles[curve.method], first, band=len(curves) <= MOST_BANDS)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.02)
    if all(len(curve.epochs) == first for curve in curves):
        axes.set_xticks([first])  # of one epoch Matplotlib finds no whole numbers
    return figure


def _draw_curve(axes: Axes, curve: Curve, style: Style, first: int, band: bool) -> None:
    part = slice(first - 1, None)
    epochs = curve.epochs[part]
    if band:
        axes.fill_between(epochs, curve.low[part], curve.high[part], color=style.colour, alpha=0.15, linewidth=0)
    marker = "o" if len(epochs) < 4 else None  # a line of one epoch has no length
    axes.plot(
        epochs,
        curve.mean[part],
        color=style.colour,
        linestyle=style.dash,
        linewidth=1.6,
        marker=marker,
        markersize=4,
        label=plain_text(curve.method),
    )
    for start in curve.phase_starts:
        if start >= first:
            # Between the last epoch of the old phase and the first of the new one.
            axes.axvline(start + 0.5, color=style.colour, linewidth=1, linestyle=(0, (2, 2)))
    for start, stop in curve.sub_phases:
        # Pruned after this epoch, restored after that one; where training ends before, for good.
        for epoch, marker in ((start, "v"), *([(stop, "^")] if stop < curve.epochs[-1] else [])):
            if first <= epoch <= curve.epochs[-1]:
                axes.plot(epoch, curve.mean[epoch - 1], color=style.colour, marker=marker, markersize=5)
