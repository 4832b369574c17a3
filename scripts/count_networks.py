"""Count parameters and multiply-adds of every listed network: ``python scripts/count_networks.py``.

Writes ``src/filtersmith/zoo/figures.json``, which ``filtersmith list models`` shows. Needs torchvision.
"""

from __future__ import annotations

from pathlib import Path

from filtersmith import zoo
from filtersmith.zoo.figures import FILE, to_json

if __name__ == "__main__":
    counted = {name: zoo.costs(name, info.listed_for) for info in zoo.MODELS for name in info.names}
    (Path(zoo.__file__).parent / FILE).write_text(to_json(counted), encoding="utf-8")
