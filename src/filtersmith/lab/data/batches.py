"""Batches of small images: the whole set lives on the device as uint8 and is augmented there, batch by batch.

No worker processes: cropping, mirroring and normalising a batch is a handful of tensor operations.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from filtersmith.lab.data.augment import Draws, crop_flip, draw, normalise
from filtersmith.lab.data.order import Batching, check_epoch, epoch_generator, epoch_order, global_sizes
from filtersmith.lab.data.records import FileSet, ImageSet

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
        images: The split, kept on ``batching.device``.
        batching: How it is made into batches; ``augment`` is a random crop and mirror image.
    """

    def __init__(self, images: ImageSet, batching: Batching) -> None:
        self.batching = batching
        # A copy is made only where memory or device differ from what the loaders leave.
        self._images = images.images.permute(0, 2, 3, 1).contiguous().to(batching.device)
        self._labels = images.labels.to(batching.device)
        height, width = images.height_width
        self._mean, self._scale = batching.per_pixel(images.channels, height * width)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self.global_sizes)

    @property
    def global_sizes(self) -> list[int]:
        """Images of each batch, over all ranks."""
        return global_sizes(len(self._labels), self.batching.batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of one epoch.

        Args:
            epoch: Number of the epoch, >= 0.
            start: Batches to skip, for a run that is resumed in the middle of an epoch.

        Yields:
            float32 images (b, C, H, W) in the memory format of ``batching`` and int64 labels (b,), on the device.
        """
        check_epoch(epoch, start, len(self))
        return self._epoch(epoch, start)

    def _epoch(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        count, augment, device = len(self._labels), self.batching.augment, self.batching.device
        generator = epoch_generator(self.batching.seed, epoch)
        order = epoch_order(count, self.batching.shuffle, generator)
        draws = draw(count, augment, generator) if augment else None
        spans = self.batching.spans(count, start)
        if not spans:
            return
        places = torch.cat([torch.arange(first, last) for first, last in spans])
        order = order[places].to(device)
        draws = draws.at(places).to(device) if draws else None
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
        if self.batching.augment and draws:
            images = crop_flip(images, self.batching.augment, draws)
        layout = self.batching.channels_last
        normal = normalise(images, self._mean, self._scale, channels_last=layout)
        return normal, self._labels.index_select(0, index)


def make_batches(split: ImageSet | FileSet, batching: Batching, *, workers: int = 2) -> Batches | StreamBatches:
    """``Batches`` for a split in memory, ``StreamBatches`` (with ``workers`` processes) for one on disk."""
    if isinstance(split, ImageSet):
        return Batches(split, batching)
    from filtersmith.lab.data.stream import StreamBatches

    return StreamBatches(split, batching, workers=workers)


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
