"""Which images make up which batch: pure arithmetic on (seed, epoch), the same in every process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from filtersmith.common.options import bad_option
from filtersmith.lab.data.augment import per_channel
from filtersmith.lab.data.records import Augment


@dataclass(frozen=True)
class Batching:
    """How a split is made into batches. ``ValueError`` for a batch size, seed or rank that cannot work.

    Attributes:
        batch_size: Images in a *global* batch, over all ranks.
        device: Where the batches are made.
        mean: Mean of each channel, in units of 0..1 (see ``channel_stats``).
        std: Standard deviation of each channel, in units of 0..1.
        augment: What training may do to the images; None for evaluation.
        shuffle: A new order each epoch; False keeps the order of the split.
        seed: Start of all randomness, >= 0.
        rank: Which slice of each global batch this process takes. The slices of all ranks, joined in order,
            are the batch that a single process gets.
        world_size: Number of processes. A last batch of fewer images leaves some ranks an empty one.
        channels_last: Memory format of the batches; false: torch's own.
    """

    batch_size: int
    device: torch.device
    mean: Sequence[float] | Tensor
    std: Sequence[float] | Tensor
    augment: Augment | None = None
    shuffle: bool = False
    seed: int = 0
    rank: int = 0
    world_size: int = 1
    channels_last: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.batch_size, int) or self.batch_size < 1:
            raise bad_option("batch_size", self.batch_size, "a whole number >= 1")
        if not isinstance(self.world_size, int) or not 1 <= self.world_size <= self.batch_size:
            raise bad_option("world_size", self.world_size, f"from 1 to the global batch size of {self.batch_size}")
        if not isinstance(self.rank, int) or not 0 <= self.rank < self.world_size:
            raise bad_option("rank", self.rank, f"from 0 to {self.world_size - 1}")
        if not isinstance(self.seed, int) or self.seed < 0:
            raise bad_option("seed", self.seed, "a whole number >= 0")

    def spans(self, count: int, start: int) -> list[tuple[int, int]]:
        """What this rank takes of each batch from ``start`` on, as places in the order of ``count`` images."""
        batches = len(global_sizes(count, self.batch_size))
        return [rank_span(k, count, self.batch_size, self.rank, self.world_size) for k in range(start, batches)]

    def per_pixel(self, channels: int, pixels: int) -> tuple[Tensor, Tensor]:
        """What `normalise` takes for images of so many pixels: the mean, and one over the deviation, of uint8."""
        mean = per_channel("mean", self.mean, channels).mul(255).repeat(pixels)
        scale = per_channel("std", self.std, channels).mul(255).reciprocal().repeat(pixels)
        return mean.to(self.device), scale.to(self.device)


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """The CPU generator of one epoch; well mixed, so that neighbouring seeds and epochs share nothing."""
    mixed = np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(mixed))


def epoch_order(count: int, shuffle: bool, generator: torch.Generator) -> Tensor:
    """int64 (count,): the images in the order of this epoch."""
    return torch.randperm(count, generator=generator) if shuffle else torch.arange(count)


def global_sizes(count: int, batch_size: int) -> list[int]:
    """The images of each batch of an epoch, over all ranks; the last one may be smaller.

    >>> global_sizes(7, 3)
    [3, 3, 1]
    """
    return [min(batch_size, count - start) for start in range(0, count, batch_size)]


def rank_span(batch: int, count: int, batch_size: int, rank: int, world_size: int) -> tuple[int, int]:
    """Places [first, last) in the epoch's order that ``rank`` takes of a global batch.

    The ranks' spans follow one another, differ in length by at most one, and join to the whole batch. A
    last batch smaller than ``world_size`` leaves some of them empty.
    """
    start = batch * batch_size
    size = min(batch_size, count - start)
    return start + rank * size // world_size, start + (rank + 1) * size // world_size


def check_epoch(epoch: int, start: int, batches: int) -> None:
    """Raise a one-line ValueError for an epoch or a first batch that does not exist."""
    if epoch < 0:
        raise bad_option("epoch", epoch, "a whole number >= 0")
    if not 0 <= start <= batches:
        raise bad_option("start", start, f"from 0 to {batches}, the batches of an epoch")
