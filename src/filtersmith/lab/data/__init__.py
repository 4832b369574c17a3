"""The laboratory's image data: sets by name, and batches that are a pure function of (seed, epoch)."""

from __future__ import annotations

from filtersmith.lab.data.batches import Batches, channel_stats, make_batches
from filtersmith.lab.data.describe import describe, noted
from filtersmith.lab.data.fingerprint import difference, fingerprint
from filtersmith.lab.data.order import Batching
from filtersmith.lab.data.records import Augment, Data, FileSet, ImageSet
from filtersmith.lab.data.sets import SOURCES, load, names
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
    "describe",
    "difference",
    "fingerprint",
    "load",
    "make_batches",
    "names",
    "noted",
    "with_held_out",
    "with_limit",
]
