"""Draw how costs grow, results/performance/growth.svg, from the times in growth.json beside it.

python scripts/draw_growth.py
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from filtersmith.lab.results.figures import styles_of, svg

ROOT = Path(__file__).resolve().parent.parent
OVER = {"filters": "filters of each layer", "layers": "layers", "batch": "images of a batch"}


def draw(curves: Sequence[Mapping[str, Any]]) -> Figure:
    """Milliseconds over what grows, both logarithmic: a straight line is a power."""
    styles = styles_of([curve["work"] for curve in curves])
    figure = Figure(figsize=(7.2, 9.6), layout="constrained")
    for axes, (over, words) in zip(figure.subplots(len(OVER)), OVER.items(), strict=True):
        for curve in (one for one in curves if one["over"] == over):
            style = styles[curve["work"]]
            looks = {"color": style.colour, "linestyle": style.dash, "marker": style.marker, "markersize": 4}
            label = f"{curve['work']}: {curve['exponent']:.2f}"
            axes.plot(curve["sizes"], curve["ms"], label=label, **looks)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        sizes = sorted({size for curve in curves if curve["over"] == over for size in curve["sizes"]})
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.set(xlabel=words, ylabel="ms")
        axes.grid(color="#eeeeee", linewidth=0.6)
        axes.legend(title="exponent", frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, help="where results/ is (default: the repository)")
    folder = parser.parse_args(arguments).root / "results" / "performance"
    curves = json.loads((folder / "growth.json").read_text(encoding="utf-8"))["curves"]
    (folder / "growth.svg").write_bytes(svg(draw(curves)))
    print(folder / "growth.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
