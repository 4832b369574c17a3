"""The laboratory's image data: sets by name, and batches that are a pure function of (seed, epoch).

What the names below mean is imported when they are first used (PEP 562): sets are listed without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from filtersmith.lab.data.batches import Batches, channel_stats, make_batches
    from filtersmith.lab.data.order import Batching
    from filtersmith.lab.data.records import Augment, Data, FileSet, ImageSet
    from filtersmith.lab.data.sets import load
    from filtersmith.lab.data.sources import SOURCES, names
    from filtersmith.lab.data.split import with_held_out, with_limit
    from filtersmith.lab.data.stream import StreamBatches

__all__ = [
    "SOURCES",
    "Augment",
    "Batches",
    "Batching",
    "Data",
    "FileSet",
    "ImageSet",
    "StreamBatches",
    "channel_stats",
    "load",
    "make_batches",
    "names",
    "with_held_out",
    "with_limit",
]

_HOMES = {
    "batches": ("Batches", "channel_stats", "make_batches"),
    "order": ("Batching",),
    "records": ("Augment", "Data", "FileSet", "ImageSet"),
    "sets": ("load",),
    "sources": ("SOURCES", "names"),
    "split": ("with_held_out", "with_limit"),
    "stream": ("StreamBatches",),
}
"""File of this folder -> the names that come from it."""


def __getattr__(name: str) -> Any:
    for home, names_ in _HOMES.items():
        if name in names_:
            value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
