"""The channels of one tensor, and the filters that make them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor


class Run(NamedTuple):
    """Channels side by side that the filters of one convolution make, in the order of the filters.

    Attributes:
        producer: name of the convolution; ``None`` where no single filter makes a channel, behind a sum for instance.
        filters: how many there are; without a producer the number of channels.
        repeats: channels of each filter, side by side; more than one behind some depthwise convolutions.
        first: number of the first of these filters, among the producer's.
    """

    producer: str | None
    filters: int
    repeats: int = 1
    first: int = 0

    @property
    def width(self) -> int:
        return self.filters * self.repeats

    @property
    def of(self) -> slice:
        """Which of the producer's filters."""
        return slice(self.first, self.first + self.filters)

    def __str__(self) -> str:
        filters = f"{self.first}:{self.of.stop}" if self.first else self.filters
        return f"{self.producer or '?'}[{filters}{f' x {self.repeats}' if self.repeats > 1 else ''}]"


Origins = tuple[Run, ...]
"""Which filter makes each channel of a tensor."""


class Flow(NamedTuple):
    """A tensor on its way through a network.

    Attributes:
        origins: of its channels.
        spatial: dimensions besides batch and channels; 0: features of a linear layer, each channel a block of them.
        moved: the producers whose zeros would no longer be zero here.
        spoiled: those whose channels are not zero here although all that they have for themselves is: and what makes
            something else of zeros: ``"gate makes"``.
        pooled: whether each channel surely has one position.
        dtype: of what kind the numbers are; any floating-point type stands for all of these.
        last: whether the channels stand behind the other dimensions, and not in dimension 1.
        chunks: where it is not one tensor but several, side by side: how many channels each has.
    """

    origins: Origins
    spatial: int
    moved: frozenset[str] = frozenset()
    spoiled: frozenset[tuple[str, str]] = frozenset()
    pooled: bool = False
    dtype: torch.dtype = torch.float64
    last: bool = False
    chunks: tuple[int, ...] = ()


def unknown(width: int) -> Origins:
    """Channels that no single filter makes."""
    return (Run(None, width),)


def joined(parts: list[Origins]) -> Origins:
    """Of tensors joined along their channels."""
    runs: list[Run] = []
    for run in (run for origins in parts for run in origins):
        if runs and run.producer is runs[-1].producer is None:
            run = Run(None, runs.pop().width + run.width)
        runs.append(run)
    return tuple(runs)


def repeated(origins: Origins, times: int) -> Origins:
    """Each channel several times, side by side."""
    return tuple(
        Run(None, run.width * times) if run.producer is None else run._replace(repeats=run.repeats * times)
        for run in origins
    )


def part_of(origins: Origins, start: int, stop: int) -> Origins | None:
    """Of some of the channels, side by side; ``None`` where only some of a filter's channels are among them."""
    found, begin = [], 0
    for run in origins:
        one, other = max(start - begin, 0), min(stop - begin, run.width)
        begin += run.width
        if one >= other:
            continue
        if run.producer is None:
            found.append(Run(None, other - one))
        elif one % run.repeats or other % run.repeats:
            return None
        else:
            first, filters = run.first + one // run.repeats, (other - one) // run.repeats
            found.append(run._replace(first=first, filters=filters))
    return tuple(found)


def width(origins: Origins) -> int:
    """The number of channels."""
    return sum(run.width for run in origins)


def producers_of(origins: Origins) -> list[str]:
    """The convolutions that make the channels, each once."""
    return list(dict.fromkeys(run.producer for run in origins if run.producer is not None))


def left_out(origins: Origins, dropped: Mapping[str, Tensor]) -> Tensor:
    """Which channels are made by filters that are dropped: bool, on the CPU.

    Args:
        dropped: name of a producer -> bool, shape ``(filters,)``.
    """
    return torch.cat([_left_out(run, dropped.get(run.producer or "")) for run in origins])


def _left_out(run: Run, mask: Tensor | None) -> Tensor:
    if mask is None or run.producer is None:
        return torch.zeros(run.width, dtype=torch.bool, device="cpu")
    return mask.cpu()[run.of].repeat_interleave(run.repeats)


def channels_of_each(origins: Origins, producer: str, filters: int) -> list[list[int]]:
    """For each filter of a producer the positions of its channels."""
    found: list[list[int]] = [[] for _ in range(filters)]
    start = 0
    for run in origins:
        if run.producer == producer:
            for f, channels in enumerate(found[run.of]):
                channels.extend(range(start + f * run.repeats, start + (f + 1) * run.repeats))
        start += run.width
    return found
