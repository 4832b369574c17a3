"""The images of an audit: so many of a data set, as a network knows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from filtersmith.common.options import bad_option
from filtersmith.lab.data import Batching, Data, channel_stats, make_batches
from filtersmith.lab.data.split import part

FEWEST = 4
"""Images without which nothing can be compared."""
LARGEST, PIXELS = 250, 2**18
"""Images of a batch at most, and their pixels."""


@dataclass(frozen=True)
class Images:
    """Test images of a data set.

    Attributes:
        data: the data set; its test images are looked at.
        count: so many of them, spread over the set.
        mean: of each channel, with which they are normalised, in units of 0..1.
        std: likewise.
    """

    data: Data
    count: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def batches(self, most: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """The same images and labels each time; no more than ``most``."""
        count = self.count if most is None else min(most, self.count)
        drawn = torch.randperm(len(self.data.test), generator=torch.Generator().manual_seed(0))[:count]
        batching = Batching(self.batch, torch.device("cpu"), self.mean, self.std)
        yield from make_batches(part(self.data.test, drawn.sort().values), batching).epoch(0)

    @property
    def batch(self) -> int:
        """Images of a batch: fewer of large ones, as the maps of a layer are held for one batch."""
        height, width = self.data.test.height_width
        return max(2, min(LARGEST, PIXELS // (height * width)))


def images_for(data: Data, facts: Mapping[str, Any], count: int) -> Images:
    """The images of a data set for a network that was made for data with these facts.

    Raises:
        ValueError: images of other channels than the network's, fewer than 4 images.
    """
    if facts.get("in_channels", data.channels) != data.channels:
        what = f"of {facts['in_channels']} channels, which the network takes"
        raise bad_option("data", f"{data.title} with {data.channels}", what)
    if count < FEWEST:
        raise bad_option("images", count, f"a whole number from {FEWEST} on")
    mean, std = (one.tolist() for one in channel_stats(data.train))
    return Images(data, min(count, len(data.test)), tuple(facts.get("mean") or mean), tuple(facts.get("std") or std))
