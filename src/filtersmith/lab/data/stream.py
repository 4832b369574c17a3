"""Batches of large images: files decoded and cropped by worker processes while the network trains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from filtersmith.lab.data.augment import normalise
from filtersmith.lab.data.decode import in_colour, read, stack
from filtersmith.lab.data.loading import Key, Loading
from filtersmith.lab.data.order import Batching, check_epoch, epoch_generator, epoch_order, global_sizes
from filtersmith.lab.data.records import Augment, FileSet, ImageSet
from filtersmith.lab.data.transforms import choices_of, transform_for


class StreamBatches:
    """Normalised batches of a split on disk, with the interface and the promises of ``Batches``.

    `transforms` says what is done to an image. Its random choices are a pure function of (seed, epoch, image), so
    that neither the number of workers nor a resumption changes them.

    Args:
        images: The split.
        batching: How it is made into batches.
        workers: Processes that decode; 0 decodes in this one. Those of shuffled batches stay for the next epoch.
    """

    def __init__(self, images: FileSet, batching: Batching, *, workers: int = 2) -> None:
        self.batching = batching
        self._files = _Files(images, batching.augment, batching.seed)
        self._mean, self._scale = batching.per_pixel(images.channels, images.size**2)
        self._loading = Loading(
            self._files, workers=workers, pin=batching.device.type == "cuda", stay=batching.shuffle
        )

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self.global_sizes)

    @property
    def global_sizes(self) -> list[int]:
        """Images of each batch, over all ranks."""
        return global_sizes(len(self._files), self.batching.batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of one epoch; see ``Batches.epoch``.

        Raises:
            ValueError: While iterating, a file that cannot be read, by name.
        """
        check_epoch(epoch, start, len(self))
        return self._epoch(epoch, start)

    def _epoch(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        count, device = len(self._files), self.batching.device
        generator = epoch_generator(self.batching.seed, epoch)
        order = epoch_order(count, self.batching.shuffle, generator).tolist()
        spans = self.batching.spans(count, start)
        wanted = [[(epoch, index) for index in order[first:last]] for first, last in spans]
        for batch in self._loading.batches(wanted):
            images, labels = (tensor.to(device, non_blocking=True) for tensor in batch)
            yield normalise(images, self._mean, self._scale, channels_last=self.batching.channels_last), labels


def sample(files: FileSet, count: int) -> ImageSet:
    """Up to ``count`` images spread evenly over a split, decoded into memory without augmentation."""
    rows = torch.linspace(0, len(files) - 1, min(count, len(files))).round().long()
    chosen = [files.files[row] for row in rows.tolist()]
    images, _ = stack((read(file) for file in chosen), len(chosen), lambda row: str(chosen[row]), files.size)
    return ImageSet(images.expand(-1, 3, -1, -1), files.labels[rows])


class _Files(Dataset[Any]):
    """Decoded and cropped images by (epoch, index), a whole batch at a time, ready-made for a DataLoader."""

    def __init__(self, images: FileSet, augment: Augment | None, seed: int) -> None:
        self.images, self.seed, self.random = images, seed, augment is not None
        self.transform = transform_for(augment, images.size)

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, keys: list[Key]) -> tuple[Tensor, Tensor] | str:
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
        image = in_colour(self.images.files[index])
        if not self.random:
            return self.transform(image)
        with choices_of(self.seed, epoch, index):
            return self.transform(image)
