"""Draw the pictures of results/audit from its files: what filters did over the training, and how they correlate.

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

from filtersmith.lab.audit.pictures import triangles
from filtersmith.lab.results.curves import filter_pictures
from filtersmith.lab.results.document import load
from filtersmith.lab.results.figures import method_styles
from filtersmith.lab.results.picture import Picture

ROOT = Path(__file__).resolve().parent.parent
LAYER = "layer2.0.conv1"
"""Of which correlations are drawn: in the middle of the network."""
BASE = "baseline"


def pictures(folder: Path) -> Iterator[tuple[str, Picture]]:
    """Name -> picture of everything that is drawn."""
    comparison = load(folder / "filters.json")
    for picture in filter_pictures(comparison, method_styles([comparison])):
        yield picture.file.removesuffix(".csv"), picture
    base = _read(folder / f"{BASE}.json")
    for file in sorted(folder.glob("*.json")):
        if file.stem not in (BASE, "filters"):
            yield f"correlation-{file.stem}", _correlation(_read(file), base)


def _correlation(document: dict[str, Any], base: dict[str, Any]) -> Picture:
    ours, theirs = (one["maps"][LAYER] for one in (document, base))
    titles = document["target"], base["target"]
    values = torch.tensor(ours["correlation"]), torch.tensor(theirs["correlation"])
    return triangles("Correlation of maps", "Pearson's r", LAYER, ours["filters"], titles, values)


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
