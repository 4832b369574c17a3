"""Which images make up which batch: pure arithmetic on (seed, epoch), the same in every process."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from filtersmith.common.options import bad_option


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """The CPU generator of one epoch; well mixed, so that neighbouring seeds and epochs share nothing."""
    mixed = np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(mixed))


def epoch_order(count: int, shuffle: bool, generator: torch.Generator) -> Tensor:
    """int64 (count,): the images in the order of this epoch."""
    return torch.randperm(count, generator=generator) if shuffle else torch.arange(count)


def num_batches(count: int, batch_size: int, drop_last: bool) -> int:
    """Batches in an epoch; the last one may be smaller unless it is dropped."""
    return count // batch_size if drop_last else -(-count // batch_size)


def rank_span(batch: int, count: int, batch_size: int, rank: int, world_size: int) -> tuple[int, int]:
    """Places [first, last) in the epoch's order that ``rank`` takes of a global batch.

    The ranks' spans follow one another, differ in length by at most one, and join to the whole batch. A
    last batch smaller than ``world_size`` leaves some of them empty.
    """
    start = batch * batch_size
    size = min(batch_size, count - start)
    return start + rank * size // world_size, start + (rank + 1) * size // world_size


def check_batching(count: int, batch_size: int, seed: int, rank: int, world_size: int, drop_last: bool) -> None:
    """Raise a one-line ValueError for a batch size, seed or rank that cannot work."""
    if not isinstance(batch_size, int) or batch_size < 1:
        raise bad_option("batch_size", batch_size, "a whole number >= 1")
    if drop_last and batch_size > count:
        raise bad_option("batch_size", batch_size, f"at most {count}, the number of images, with drop_last")
    if not isinstance(world_size, int) or not 1 <= world_size <= batch_size:
        raise bad_option("world_size", world_size, f"from 1 to the global batch size of {batch_size}")
    if not isinstance(rank, int) or not 0 <= rank < world_size:
        raise bad_option("rank", rank, f"from 0 to {world_size - 1}")
    if not isinstance(seed, int) or seed < 0:
        raise bad_option("seed", seed, "a whole number >= 0")


def check_epoch(epoch: int, start: int, batches: int) -> None:
    """Raise a one-line ValueError for an epoch or a first batch that does not exist."""
    if epoch < 0:
        raise bad_option("epoch", epoch, "a whole number >= 0")
    if not 0 <= start <= batches:
        raise bad_option("start", start, f"from 0 to {batches}, the batches of an epoch")
