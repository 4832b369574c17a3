"""A channel graph as a table of 80 columns."""

from __future__ import annotations

import textwrap
from itertools import product
from typing import TYPE_CHECKING

from filtersmith.common.words import plural
from filtersmith.filters import outputs_of
from filtersmith.graph.flow import producers_of

if TYPE_CHECKING:
    from filtersmith.graph.channels import ChannelGraph

COLUMNS = 80
LONGEST_NAME = 36
SHORT = 14
HEAD = ("convolution", "filters", "may go", "per-channel > consumers")
LEGEND = {
    "yes": "filters may go, and with them their channels, up to all that reads them",
    "zeros": "filters may go; zeros take the place of their channels, because of [n]",
    "no": "the filters stay, because of [n]",
    "a > b": "the channels pass a (norms, depthwise convolutions, ...); b reads them",
    ".name": "stands beside the convolution, in the same block",
    "..name": "is cut at its beginning",
}


def table(graph: ChannelGraph) -> str:
    """A headline, one row for each convolution in the order of their calls, the numbered reasons, a legend."""
    may_go = len(graph.convolutions) - len(graph.reasons)
    head = f"{graph.network}: {plural(len(graph.convolutions), 'convolution')}, {may_go} of them may lose filters"
    if not graph.convolutions:
        return head
    reasons = _reasons(graph)
    rows = [HEAD[:3], *(_row(graph, name, reasons) for name in graph.convolutions)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    room = COLUMNS - sum(widths) - 2 * len(widths)
    ways = [HEAD[3], *(_way(graph, name, reasons, room) for name in graph.convolutions)]
    cells = [
        f"{name:{widths[0]}}  {filters:>{widths[1]}}  {verdict:{widths[2]}}  {way}".rstrip()
        for (name, filters, verdict), way in zip(rows, ways, strict=True)
    ]
    notes = [line for n, reason in enumerate(reasons, 1) for line in _wrapped(f"[{n}]", reason)]
    words = [word for row in cells for word in row.split()]
    dots = {2: "..name", 1: ".name"}
    used = {"a > b", *words, *(dots.get(len(word) - len(word.lstrip(".")), "") for word in words)}
    legend = [line for key, text in LEGEND.items() if key in used for line in _wrapped(key, text)]
    return "\n".join([head, "", *cells, "", *notes, *([""] if notes else []), *legend])


def _reasons(graph: ChannelGraph) -> list[str]:
    """All that keeps filters or their places, each once, in the order in which the rows need it."""
    found: dict[str, None] = {}
    for name in graph.convolutions:
        needed = graph.producers[name].full_width_reason if name in graph.producers else None
        found |= {reason: None for reason in (graph.reasons.get(name), needed) if reason is not None}
    return list(found)


def _row(graph: ChannelGraph, name: str, reasons: list[str]) -> tuple[str, str, str]:
    """What a convolution is called, how many filters it has, and whether they may go."""
    if name in graph.reasons:
        verdict = f"no [{reasons.index(graph.reasons[name]) + 1}]"
    else:
        verdict = "yes" if graph.producers[name].full_width_reason is None else "zeros"
    return _cut(name, LONGEST_NAME), str(outputs_of(graph.convolutions[name])), verdict


def _way(graph: ChannelGraph, name: str, reasons: list[str], room: int) -> str:
    """What the channels of a convolution pass, and what reads them; as much of it as there is room for."""
    if name not in graph.producers:
        makers = producers_of(graph.sites[name].inputs) if name in graph.sites else []
        ways = [f"on the way of {of}" for of in _shorter([_beside(maker, name) for maker in makers])] or [""]
    else:
        needed = graph.producers[name].full_width_reason
        end = [] if needed is None else [f"[{reasons.index(needed) + 1}]"]
        passed = _shorter([_beside(one, name) for one in graph.per_channel[name]]) or [""]
        consumers = _shorter([_beside(one, name) for one in graph.consumers[name]]) or [""]
        ends = [", ".join(filter(None, [consumer, *end])) for consumer in consumers]
        ways = [f"{one} > {other}".strip() if one or other else "" for one, other in product(passed, ends)]
    return next((way for way in ways if len(way) <= room), ways[-1][:room])


def _shorter(names: list[str]) -> list[str]:
    """Names of layers, in ever fewer words."""
    if len(names) < 2:
        return [*names, *(_cut(name, SHORT) for name in names)]
    return [", ".join(names), f"{names[0]}, +{len(names) - 1} more", f"{len(names)} layers"]


def _cut(name: str, longest: int) -> str:
    """A name without its first words: the end tells more than the beginning."""
    words = name.split(".")
    ends = [f"..{'.'.join(words[n:])}" for n in range(1, len(words))]
    return next((shown for shown in [name, *ends] if len(shown) <= longest), f"..{name[2 - longest :]}")


def _beside(name: str, convolution: str) -> str:
    """Shorter where both stand in one block."""
    block, _, last = name.rpartition(".")
    return f".{last}" if block and block == convolution.rpartition(".")[0] else name


def _wrapped(key: str, text: str) -> list[str]:
    return textwrap.wrap(f"{key:5} {text}", COLUMNS, subsequent_indent=" " * 6)
