"""Draw accuracy against parameters for every file in results/ whose methods deploy networks of different sizes.

The pictures stand in results/pictures/, under the names of the files. They are those of the page that
`filtersmith report` writes, with the legend inside.

    python scripts/draw_sizes.py
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from filtersmith.lab.results import figures
from filtersmith.lab.results.document import Comparison, load

ROOT = Path(__file__).resolve().parent.parent


def picture(comparison: Comparison) -> bytes | None:
    """An SVG, or None where all methods deploy equally many parameters."""
    if not (points := figures.points(comparison)):
        return None
    figure = figures.draw_sizes(points, figures.method_styles([comparison]))
    figure.set_size_inches(8, max(3.6, 1 + 0.2 * len(points)))  # the legend stays below the title
    figure.axes[0].set_ylabel("test accuracy, %")
    figure.suptitle(comparison.title, fontsize=9)
    figure.legend(loc="outside right center", frameon=False, fontsize=8)
    return figures.svg(figure)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, help="where results/ is (default: the repository)")
    results = parser.parse_args(arguments).root / "results"
    for file in sorted(results.glob("*.json")):
        if drawn := picture(load(file)):
            (results / "pictures").mkdir(exist_ok=True)
            (results / "pictures" / f"{file.stem}.svg").write_bytes(drawn)
            print(f"{results / 'pictures' / file.stem}.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
