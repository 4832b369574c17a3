"""Batches of small images: the whole set lives on the device as uint8 and is augmented there, batch by batch.

No worker processes: cropping, mirroring and normalising a batch is a handful of tensor operations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from filtersmith.lab.data.augment import Draws, crop_flip, draw, normalise, per_channel
from filtersmith.lab.data.order import (
    check_batching,
    check_epoch,
    epoch_generator,
    epoch_order,
    num_batches,
    rank_span,
)
from filtersmith.lab.data.records import Augment, FileSet, ImageSet

if TYPE_CHECKING:
    from filtersmith.lab.data.stream import StreamBatches


_CHUNK = 16 * 2**20
"""Bytes of float32 images made at a time. One operation then serves several batches: fewer kernels to launch on
CUDA, and on a CPU that is shared fewer moments at which torch's threads wait for one another. Many more would leave
the cache."""


class Batches:
    """Normalised batches of an in-memory split.

    Everything random about an epoch (order, crops, mirror images) is a pure function of ``seed`` and the
    epoch's number. No global random state is read or changed, and a batch is the same bit for bit whether or
    not the ones before it were made.

    Args:
        images: The split.
        batch_size: Images in a *global* batch, over all ranks.
        device: Where the split is kept and the batches are made.
        mean: Mean of each channel, in units of 0..1 (see ``channel_stats``).
        std: Standard deviation of each channel, in units of 0..1.
        augment: Random crop and mirror image; None for evaluation.
        shuffle: A new order each epoch; False keeps the order of the split.
        seed: Start of all randomness, >= 0.
        rank: Which slice of each global batch this process takes. The slices of all ranks, joined in order,
            are the batch that a single process gets.
        world_size: Number of processes. A last batch of fewer images leaves some ranks an empty one.
        drop_last: Leave out a last, smaller batch.
    """

    def __init__(
        self,
        images: ImageSet,
        batch_size: int,
        *,
        device: torch.device,
        mean: Sequence[float] | Tensor,
        std: Sequence[float] | Tensor,
        augment: Augment | None,
        shuffle: bool,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
    ) -> None:
        check_batching(len(images), batch_size, seed, rank, world_size, drop_last)
        self.batch_size, self.seed, self.rank, self.world_size = batch_size, seed, rank, world_size
        self.augment, self.shuffle, self.drop_last = augment, shuffle, drop_last
        self.device = torch.device(device)
        # A copy is made only where memory or device differ from what the loaders leave.
        self._images = images.images.permute(0, 2, 3, 1).contiguous().to(self.device)
        self._labels = images.labels.to(self.device)
        height, width = images.height_width
        self._mean = per_channel("mean", mean, images.channels).mul(255).repeat(height * width).to(self.device)
        self._scale = per_channel("std", std, images.channels).mul(255).reciprocal().repeat(height * width)
        self._scale = self._scale.to(self.device)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return num_batches(len(self._labels), self.batch_size, self.drop_last)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of one epoch.

        Args:
            epoch: Number of the epoch, >= 0.
            start: Batches to skip, for a run that is resumed in the middle of an epoch.

        Yields:
            float32 images (b, C, H, W) in channels-last memory and int64 labels (b,), on the device.
        """
        check_epoch(epoch, start, len(self))
        return self._epoch(epoch, start)

    def _epoch(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        count = len(self._labels)
        generator = epoch_generator(self.seed, epoch)
        order = epoch_order(count, self.shuffle, generator)
        draws = draw(count, self.augment, generator) if self.augment else None
        spans = [rank_span(k, count, self.batch_size, self.rank, self.world_size) for k in range(start, len(self))]
        if not spans:
            return
        places = torch.cat([torch.arange(first, last) for first, last in spans])
        order = order[places].to(self.device)
        draws = draws.at(places).to(self.device) if draws else None
        sizes = [last - first for first, last in spans]
        together = max(1, _CHUNK // (self._mean.numel() * 4 * max(1, max(sizes))))
        done = 0
        for group in (sizes[k : k + together] for k in range(0, len(sizes), together)):
            ready = done + sum(group)
            images, labels = self._make(order[done:ready], draws.part(done, ready) if draws else None)
            yield from zip(images.split(group), labels.split(group), strict=True)
            done = ready

    def _make(self, index: Tensor, draws: Draws | None) -> tuple[Tensor, Tensor]:
        images = self._images.index_select(0, index)
        if self.augment and draws:
            images = crop_flip(images, self.augment, draws)
        return normalise(images, self._mean, self._scale), self._labels.index_select(0, index)


def make_batches(
    split: ImageSet | FileSet,
    batch_size: int,
    *,
    device: torch.device,
    mean: Sequence[float] | Tensor,
    std: Sequence[float] | Tensor,
    augment: Augment | None,
    shuffle: bool,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    drop_last: bool = False,
    workers: int = 2,
) -> Batches | StreamBatches:
    """``Batches`` for a split in memory, ``StreamBatches`` (with ``workers`` processes) for one on disk."""
    if isinstance(split, ImageSet):
        return Batches(
            split,
            batch_size,
            device=device,
            mean=mean,
            std=std,
            augment=augment,
            shuffle=shuffle,
            seed=seed,
            rank=rank,
            world_size=world_size,
            drop_last=drop_last,
        )
    from filtersmith.lab.data.stream import StreamBatches

    return StreamBatches(
        split,
        batch_size,
        device=device,
        mean=mean,
        std=std,
        augment=augment,
        shuffle=shuffle,
        seed=seed,
        rank=rank,
        world_size=world_size,
        drop_last=drop_last,
        workers=workers,
    )


def channel_stats(images: ImageSet | FileSet) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, in units of 0..1.

    Exact for a split in memory (counted in whole numbers, so that every machine finds the same); for one on
    disk, from 1,000 images spread evenly over it.

    Returns:
        mean, std: float32 (C,) each, on the CPU. A constant channel is given a std of 1.
    """
    if isinstance(images, FileSet):
        from filtersmith.lab.data.stream import sample

        return channel_stats(sample(images, 1000))
    counts = torch.stack([torch.bincount(plane.flatten(), minlength=256) for plane in images.images.unbind(1)])
    weights = counts.double() / counts.sum(1, keepdim=True)
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = weights @ values
    std = ((weights * (values - mean[:, None]) ** 2).sum(1)).sqrt()
    return mean.float(), torch.where(std > 0, std, 1.0).float()
