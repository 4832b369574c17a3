"""A channel graph as a table of 80 columns."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from filtersmith.graph.flow import producers_of

if TYPE_CHECKING:
    from filtersmith.graph.channels import ChannelGraph

COLUMNS = 80
LONGEST_NAME = 30
HEAD = ("convolution", "filters", "may go", "per-channel > consumers")
LEGEND = {
    "yes": "filters may go, and with them their channels, up to all that reads them",
    "zeros": "filters may go; zeros take the place of their channels, because of [n]",
    "no": "the filters stay, because of [n]",
    ".name": "stands beside the convolution, in the same block",
}


def table(graph: ChannelGraph) -> str:
    """A headline, one row for each convolution in the order of their calls, the numbered reasons, a legend."""
    numbers: dict[str, int] = {}
    rows = [HEAD[:3], *(_row(graph, name, numbers) for name in graph.convolutions)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    room = COLUMNS - sum(widths) - 2 * len(widths)
    ways = [HEAD[3], *_ways(graph, numbers, room)]
    may_go = len(graph.convolutions) - len(graph.reasons)
    lines = [f"{graph.network}: {len(graph.convolutions)} convolutions, {may_go} of them may lose filters", ""]
    for (name, filters, verdict), way in zip(rows, ways, strict=True):
        lines.append(f"{name:{widths[0]}}  {filters:>{widths[1]}}  {verdict:{widths[2]}}  {way}".rstrip())
    lines += ["", *(line for reason, n in numbers.items() for line in _wrapped(f"[{n}]", reason))]
    shown = "\n".join(lines)
    used = {verdict.split()[0] for _, _, verdict in rows[1:]} | ({".name"} if " ." in shown else set())
    return "\n".join([*lines, "", *(line for key in LEGEND if key in used for line in _wrapped(key, LEGEND[key]))])


def _row(graph: ChannelGraph, name: str, numbers: dict[str, int]) -> tuple[str, str, str]:
    """What a convolution is called, how many filters it has, and whether they may go."""
    if name in graph.reasons:
        verdict = f"no {_number(graph.reasons[name], numbers)}"
    else:
        verdict = "yes" if graph.producers[name].full_width_reason is None else "zeros"
    return _shortened(name, LONGEST_NAME), str(graph.convolutions[name].out_channels), verdict


def _ways(graph: ChannelGraph, numbers: dict[str, int], room: int) -> list[str]:
    """For each convolution what its channels pass, and what reads them, in so many columns."""
    passed, consumers = graph.per_channel, graph.consumers
    ways = []
    for name in graph.convolutions:
        if name in graph.producers:
            readers = [_beside(reader, name) for reader in consumers[name]]
            if (needed := graph.producers[name].full_width_reason) is not None:
                readers.append(_number(needed, numbers))
            ways.append(_way([_beside(each, name) for each in passed[name]], readers, room))
        else:
            makers = producers_of(graph.sites[name].inputs) if name in graph.sites else []
            ways.append(_fitted([f"on the way of {_beside(maker, name)}" for maker in makers], room))
    return ways


def _way(passed: list[str], readers: list[str], room: int) -> str:
    if not passed:
        return "> " + _fitted(readers, room - 2)
    room -= 3
    behind = _fitted(readers, max(room // 2, room - len(", ".join(passed))))
    return f"{_fitted(passed, room - len(behind))} > {behind}"


def _fitted(names: list[str], room: int) -> str:
    """As many names as there is room for, and how many more there are."""
    for shown in range(len(names), 0, -1):
        more = [f"+{len(names) - shown} more"] if shown < len(names) else []
        if len(text := ", ".join([*names[:shown], *more])) <= room:
            return text
    more_text = f", +{len(names) - 1} more" if len(names) > 1 else ""
    return _shortened(names[0], room - len(more_text)) + more_text if names else ""


def _shortened(name: str, room: int) -> str:
    """The end of a name, which tells more than its beginning."""
    return name if len(name) <= room else f"..{name[len(name) - room + 2 :]}"


def _beside(name: str, convolution: str) -> str:
    """Shorter where both stand in one block."""
    block, _, last = name.rpartition(".")
    return f".{last}" if block and block == convolution.rpartition(".")[0] else name


def _number(reason: str, numbers: dict[str, int]) -> str:
    return f"[{numbers.setdefault(reason, len(numbers) + 1)}]"


def _wrapped(key: str, text: str) -> list[str]:
    return textwrap.wrap(f"{key:6}{text}", COLUMNS, subsequent_indent=" " * 6)
