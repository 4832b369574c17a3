"""Batches of large images: files decoded and cropped by worker processes while the network trains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from filtersmith.common.options import bad_option
from filtersmith.lab.data.augment import normalise, per_channel
from filtersmith.lab.data.decode import decode, fit, need, read, stack
from filtersmith.lab.data.order import (
    check_batching,
    check_epoch,
    epoch_generator,
    epoch_order,
    num_batches,
    rank_span,
)
from filtersmith.lab.data.records import Augment, FileSet, ImageSet


class StreamBatches:
    """Normalised batches of a split on disk, with the interface and the promises of ``Batches``.

    Training images get torchvision's RandomResizedCrop and, if ``augment.flip``, a mirror image; without
    ``augment`` the short side is resized and the centre cropped. Each image's random choices are a pure
    function of (seed, epoch, image), so that neither the number of workers nor a resumption changes them.

    Args:
        images: The split.
        workers: Processes that decode; 0 decodes in this one.

    The other arguments are those of ``Batches``; ``augment.pad`` has no meaning here.
    """

    def __init__(
        self,
        images: FileSet,
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
    ) -> None:
        check_batching(len(images), batch_size, seed, rank, world_size, drop_last)
        if not isinstance(workers, int) or workers < 0:
            raise bad_option("workers", workers, "a whole number >= 0")
        self.batch_size, self.seed, self.rank, self.world_size = batch_size, seed, rank, world_size
        self.shuffle, self.drop_last, self.workers = shuffle, drop_last, workers
        self.device = torch.device(device)
        self._files = _Files(images, augment, seed)
        pixels = images.size**2
        self._mean = per_channel("mean", mean, images.channels).mul(255).repeat(pixels).to(self.device)
        self._scale = per_channel("std", std, images.channels).mul(255).reciprocal().repeat(pixels).to(self.device)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return num_batches(len(self._files), self.batch_size, self.drop_last)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of one epoch; see ``Batches.epoch``.

        Raises:
            ValueError: While iterating, a file that cannot be read, by name.
        """
        check_epoch(epoch, start, len(self))
        return self._epoch(epoch, start)

    def _epoch(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        count = len(self._files)
        generator = epoch_generator(self.seed, epoch)
        order = epoch_order(count, self.shuffle, generator).tolist()
        spans = [rank_span(k, count, self.batch_size, self.rank, self.world_size) for k in range(start, len(self))]
        batches = [[(epoch, index) for index in order[first:last]] for first, last in spans]
        loader = DataLoader(
            self._files,
            batch_sampler=batches,
            num_workers=self.workers,
            collate_fn=_unchanged,
            pin_memory=self.device.type == "cuda",
            generator=generator,  # else it would draw from the global one
        )
        for batch in loader:
            if isinstance(batch, str):
                raise ValueError(batch)
            images, labels = (tensor.to(self.device, non_blocking=True) for tensor in batch)
            yield normalise(images, self._mean, self._scale), labels


def sample(files: FileSet, count: int) -> ImageSet:
    """Up to ``count`` images spread evenly over a split, decoded into memory without augmentation."""
    rows = torch.linspace(0, len(files) - 1, min(count, len(files))).round().long()
    chosen = [files.files[row] for row in rows.tolist()]
    images = stack((read(file) for file in chosen), len(chosen), lambda row: str(chosen[row]), files.size)
    return ImageSet(images.expand(-1, 3, -1, -1), files.labels[rows])


class _Transform(Protocol):
    def __call__(self, image: Tensor, /) -> Tensor: ...


class _Files(Dataset[Any]):
    """Decoded and cropped images by (epoch, index), a whole batch at a time, ready-made for a DataLoader."""

    def __init__(self, images: FileSet, augment: Augment | None, seed: int) -> None:
        self.images, self.seed = images, seed
        self.transform: _Transform | None = None
        if augment:
            v2 = need("torchvision.transforms.v2")
            steps = [v2.RandomResizedCrop(images.size, antialias=True)]
            self.transform = v2.Compose([*steps, v2.RandomHorizontalFlip()] if augment.flip else steps)

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, keys: list[tuple[int, int]]) -> tuple[Tensor, Tensor] | str:
        """uint8 (b, H, W, 3) and int64 (b,); or what is wrong, because an error raised in a worker arrives as
        a page of traceback."""
        side = self.images.size
        pixels = torch.empty(len(keys), side, side, 3, dtype=torch.uint8)
        try:
            for place, (epoch, index) in enumerate(keys):
                pixels[place] = self._image(epoch, index).permute(1, 2, 0)
        except ValueError as error:
            return str(error)
        return pixels, self.images.labels[[index for _, index in keys]]

    def _image(self, epoch: int, index: int) -> Tensor:
        file = self.images.files[index]
        data = read(file)
        try:
            image = decode(data).expand(3, -1, -1)
        except ValueError as error:
            raise ValueError(f"{file} cannot be read as an image: {error}") from error
        if self.transform is None:
            return fit(image, self.images.size)
        # torchvision draws from the global CPU generator only: lend it this image's, then put it back
        mixed = np.random.SeedSequence((self.seed, epoch, index)).generate_state(1, np.uint64)[0]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(mixed))
            return self.transform(image)


def _unchanged(batch: Any) -> Any:
    return batch
