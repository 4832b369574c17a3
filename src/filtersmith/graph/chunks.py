"""Channels that are taken apart: slices of a tensor, and what ``chunk`` and ``split`` make of one."""

from __future__ import annotations

import operator
from typing import Any

from torch import fx

from filtersmith.graph.flow import Flow, width
from filtersmith.graph.known import along, widths
from filtersmith.graph.ops import Operation


def operation_on_chunks(node: fx.Node) -> Operation | None:
    """What a call does to several tensors: it picks one of them, or nothing is known."""
    return Operation.PART if node.target is operator.getitem and isinstance(node.args[1], int) else None


def chunks_of(node: fx.Node, flow: Flow) -> tuple[int, ...] | None:
    """How many channels each tensor has that a call makes of one; ``None``: unknown, or it is not taken apart so."""
    channels = width(flow.origins)
    if along(node) not in (1, -1 - flow.spatial) or not _by_channels(flow):
        return None
    found = widths(node, channels)
    sizes = [size for size in found or () if size is not None]
    return tuple(sizes) if found is not None and len(sizes) == len(found) and sum(sizes) == channels else None


def _by_channels(flow: Flow) -> bool:
    """Whether dimension 1 has a place for each channel; features have a block for each."""
    return flow.spatial > 0 or flow.pooled


def part_of_call(node: fx.Node, flow: Flow) -> tuple[int, int] | None:
    """The first channel that a call takes, and the first behind these; ``None`` where it takes none."""
    place: Any = node.args[1]
    if not flow.chunks:
        start, stop, _ = place[1].indices(width(flow.origins))
        return (start, stop) if start < stop and _by_channels(flow) else None
    if not -len(flow.chunks) <= place < len(flow.chunks):
        return None
    start = sum(flow.chunks[: place % len(flow.chunks)])
    return start, start + flow.chunks[place]
