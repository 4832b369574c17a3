"""Draw the pictures of results/audit from its files: accuracy, filters over the training, correlations, the Oracle.

They are those of the pages that ``filtersmith compare --audit`` and ``filtersmith audit`` write.

    python scripts/draw_audit.py
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from filtersmith.lab.audit.oracle import Worth
from filtersmith.lab.audit.pictures import agreement, oracle, triangles
from filtersmith.lab.results.curves import curve_pictures, filter_pictures
from filtersmith.lab.results.document import load
from filtersmith.lab.results.figures import method_styles
from filtersmith.lab.results.picture import Picture
from filtersmith.measure.oracle_agreement import Agreement, OracleSummary

ROOT = Path(__file__).resolve().parent.parent
LAYER = "layer2.0.conv1"
"""Of which correlations are drawn: in the middle of the network."""
BASE = "baseline"


def pictures(folder: Path) -> Iterator[tuple[str, Picture]]:
    """Name -> picture of everything that is drawn."""
    comparison = load(folder / "filters.json")
    styles = method_styles([comparison])
    for picture in (
        curve_pictures(comparison, styles, named=True)[0],
        *filter_pictures(comparison, styles, named=True),
    ):
        yield picture.file.removesuffix(".csv"), picture
    base = _read(folder / f"{BASE}.json")
    worth = _worth(base["oracle"])
    yield "oracle", oracle(worth)
    yield "criteria", agreement(worth.agreement)
    for file in sorted(folder.glob("*.json")):
        if file.stem not in (BASE, "filters"):
            yield f"correlation-{file.stem}", _correlation(_read(file), base)


def _correlation(document: dict[str, Any], base: dict[str, Any]) -> Picture:
    ours, theirs = (one["maps"][LAYER] for one in (document, base))
    titles = document["target"], base["target"]
    values = torch.tensor(ours["correlation"]), torch.tensor(theirs["correlation"])
    return triangles("Correlation of maps", "Pearson's r", LAYER, ours["filters"], titles, values)


def _worth(found: dict[str, Any]) -> Worth:
    return Worth(
        found["images"],
        found["accuracy"],
        found["guess"],
        {name: torch.tensor(drops) for name, drops in found["drops"].items()},
        {name: OracleSummary(**one) for name, one in found["layers"].items()},
        {name: Agreement(**one) for name, one in found["agreement"].items()},
    )


def _read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, help="where results/ is (default: the repository)")
    folder = parser.parse_args(arguments).root / "results" / "audit"
    (folder / "pictures").mkdir(exist_ok=True)
    for name, picture in pictures(folder):
        file = folder / "pictures" / f"{name}.svg"
        file.write_bytes(base64.b64decode(picture.source.partition(",")[2]))
        print(f"{file}: {picture.alt}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
