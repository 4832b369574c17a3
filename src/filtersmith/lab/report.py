"""The report: one HTML page that needs nothing but itself, made from result documents.

Figures are SVG inside the page, drawn with Matplotlib's `Figure` objects (no pyplot, no global state). They
keep a white ground in dark mode, so that the colours stay the ones that were chosen to be told apart.
"""

from __future__ import annotations

import base64
import io
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filtersmith.lab.results import Comparison, Epoch, Run, write_atomically
from filtersmith.lab.stats import BASELINE, best_accuracy, finished_runs, last_accuracy
from filtersmith.lab.tables import HEADS, NOTHING, build_table, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette without its yellow, which is too faint on white; the baseline is always the same grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
BASELINE_COLOUR = "#333333"
DASHES = ("solid", "dashed", "dotted", "dashdot")
SVG_DASHES = {"solid": "none", "dashed": "7 4", "dotted": "2 3", "dashdot": "7 3 2 3"}
ZOOM_FROM = 8
"""Epochs from which a second accuracy figure shows the last half alone, where the methods differ least."""


@dataclass(frozen=True)
class Style:
    """How a method is drawn, in the figures and in their legend."""

    colour: str
    dash: str

    @property
    def svg_dash(self) -> str:
        return SVG_DASHES[self.dash]


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


@dataclass(frozen=True)
class Picture:
    """A figure as the source of an <img>, and what it shows in words."""

    caption: str
    source: str


def write_report(comparisons: Sequence[Comparison], path: str | os.PathLike[str]) -> Path:
    """Write the page to `path` (a file; its folder is made) and return the path.

    Raises ValueError without comparisons, or when the extra `report` is not installed.
    """
    return write_atomically(path, render(comparisons))


def render(comparisons: Sequence[Comparison]) -> str:
    """The page as text; the same comparisons always give the same text."""
    if not comparisons:
        raise ValueError("a report needs at least one comparison, got none")
    try:
        import jinja2
        import matplotlib  # noqa: F401  (found missing here, before anything is drawn)
    except ImportError as error:
        raise ValueError(
            f'the report needs {error.name}, which is not installed: pip install "filtersmith[report]"'
        ) from error
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("filtersmith.lab"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = _breakable
    styles = method_styles(comparisons)
    page = environment.get_template("report.html.j2")
    return page.render(heads=HEADS, styles=styles, sections=[_section(c, styles) for c in comparisons])


def method_styles(comparisons: Sequence[Comparison]) -> dict[str, Style]:
    """One style for every method, the same in all sections of the page."""
    methods = dict.fromkeys(m for comparison in comparisons for m in comparison.methods if m != BASELINE)
    styles = {BASELINE: Style(BASELINE_COLOUR, DASHES[0])}
    for index, method in enumerate(methods):
        cycle, colour = divmod(index, len(COLOURS))
        styles[method] = Style(COLOURS[colour], DASHES[cycle % len(DASHES)])
    return styles


def _section(comparison: Comparison, styles: dict[str, Style]) -> dict[str, Any]:
    import yaml

    curves = [_curve(comparison, m, lambda e: 100 * e.test_accuracy) for m in comparison.methods]
    drawn = [curve.method for curve in curves if curve is not None]
    return {
        "title": comparison.title,
        "table": build_table(comparison),
        "pictures": _pictures(comparison, styles) if drawn else [],
        "drawn": drawn,
        "phases": any(curve.phase_starts for curve in curves if curve is not None),
        "sub_phases": any(curve.sub_phases for curve in curves if curve is not None),
        "seeds": comparison.seeds,
        "by_seed": [
            (method, [_seed_cell(comparison.run(method, seed)) for seed in comparison.seeds])
            for method in comparison.methods
        ],
        "config": yaml.safe_dump(comparison.model_dump(mode="json")["config"], sort_keys=False, allow_unicode=True),
        "environment": {
            key: NOTHING if value is None else str(value) for key, value in comparison.environment.items()
        },
    }


def _seed_cell(run: Run | None) -> tuple[str, str]:
    """Last and best test accuracy of one run in percent; its status when there are none."""
    if run is None:
        return "not run", ""
    if run.status != "finished":
        return run.status, ""
    return percent(last_accuracy(run)), percent(best_accuracy(run))


# --- figures ---------------------------------------------------------------------------------------------


def _pictures(comparison: Comparison, styles: dict[str, Style]) -> list[Picture]:
    def curves(value: Callable[[Epoch], float | None]) -> list[Curve]:
        found = (_curve(comparison, method, value) for method in comparison.methods)
        return [curve for curve in found if curve is not None]

    accuracy = curves(lambda epoch: 100 * epoch.test_accuracy)
    loss = curves(lambda epoch: epoch.train_loss)
    wanted = [("Test accuracy, %", accuracy, 1)]
    if comparison.epochs >= ZOOM_FROM:
        wanted.append(("Test accuracy, %, last half", accuracy, comparison.epochs // 2 + 1))
    wanted.append(("Training loss", loss, 1))
    return [Picture(caption, _as_source(draw(lines, styles, first))) for caption, lines, first in wanted]


def _curve(comparison: Comparison, method: str, value: Callable[[Epoch], float | None]) -> Curve | None:
    """The curve of a method, or None without finished runs; a value that is None leaves a gap."""
    runs = list(finished_runs(comparison, method).values())
    if not runs:
        return None
    gap = float("nan")
    columns = [[value(epoch) for epoch in same] for same in zip(*(run.epochs for run in runs), strict=True)]
    known = [[v for v in column if v is not None] for column in columns]
    return Curve(
        method=method,
        epochs=tuple(range(1, len(columns) + 1)),
        mean=tuple(sum(values) / len(values) if values else gap for values in known),
        low=tuple(min(values, default=gap) for values in known),
        high=tuple(max(values, default=gap) for values in known),
        phase_starts=tuple(sorted({start for run in runs for start in run.phase_starts})),
        sub_phases=tuple(sorted({phase for run in runs for phase in run.sub_phases})),
    )


def draw(curves: Sequence[Curve], styles: dict[str, Style], first: int = 1) -> Figure:
    """A figure of the curves from epoch `first` on: the mean as a line, lowest to highest seed as a band."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(4.4, 3.1), layout="constrained")
    axes = figure.add_subplot()
    # Methods that share their phases share the shade.
    for start, stop in sorted({phase for curve in curves for phase in curve.sub_phases}):
        if stop >= first:
            axes.axvspan(max(start + 0.5, first), stop + 0.5, color="#000000", alpha=0.07, linewidth=0)
    for curve in curves:
        _draw_curve(axes, curve, styles[curve.method], first)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.02)
    return figure


def _draw_curve(axes: Axes, curve: Curve, style: Style, first: int) -> None:
    part = slice(first - 1, None)
    epochs = curve.epochs[part]
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
    )
    for start in curve.phase_starts:
        if start >= first:
            # Between the last epoch of the old phase and the first of the new one.
            axes.axvline(start + 0.5, color=style.colour, linewidth=1, linestyle=(0, (2, 2)))
    for phase in curve.sub_phases:
        for epoch, marker in zip(phase, ("v", "^"), strict=True):  # pruned after this epoch, restored after that one
            if first <= epoch <= curve.epochs[-1]:
                axes.plot(epoch, curve.mean[epoch - 1], color=style.colour, marker=marker, markersize=5)


def _as_source(figure: Figure) -> str:
    import matplotlib

    buffer = io.BytesIO()
    # Without a salt and a date the same figure would be another file each time.
    with matplotlib.rc_context({"svg.hashsalt": "filtersmith", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


# --- text ------------------------------------------------------------------------------------------------


def _breakable(text: str) -> Any:
    """Let a long method name break after a comma; everything is escaped first."""
    from markupsafe import Markup, escape

    pieces = re.split(r"(?<=,)", text)
    return Markup("<wbr>").join(escape(piece) for piece in pieces)
