"""Batches of large images: files decoded and cropped by worker processes while the network trains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from filtersmith.common.options import bad_option
from filtersmith.lab.data.augment import normalise
from filtersmith.lab.data.decode import decode, fit, need, read, stack
from filtersmith.lab.data.order import Batching, check_epoch, epoch_generator, epoch_order, global_sizes
from filtersmith.lab.data.records import Augment, FileSet, ImageSet


class StreamBatches:
    """Normalised batches of a split on disk, with the interface and the promises of ``Batches``.

    Training images get torchvision's RandomResizedCrop and, if ``augment.flip``, a mirror image; without
    ``augment`` the short side is resized and the centre cropped. Each image's random choices are a pure
    function of (seed, epoch, image), so that neither the number of workers nor a resumption changes them.

    Args:
        images: The split.
        batching: How it is made into batches; ``augment.pad`` has no meaning here.
        workers: Processes that decode; 0 decodes in this one.
    """

    def __init__(self, images: FileSet, batching: Batching, *, workers: int = 2) -> None:
        if not isinstance(workers, int) or workers < 0:
            raise bad_option("workers", workers, "a whole number >= 0")
        self.batching, self.workers = batching, workers
        self._files = _Files(images, batching.augment, batching.seed)
        self._mean, self._scale = batching.per_pixel(images.channels, images.size**2)

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
        batches = [[(epoch, index) for index in order[first:last]] for first, last in spans]
        loader = DataLoader(
            self._files,
            batch_sampler=batches,
            num_workers=self.workers,
            collate_fn=_unchanged,
            pin_memory=device.type == "cuda",
            generator=generator,  # else it would draw from the global one
        )
        for batch in loader:
            if isinstance(batch, str):
                raise ValueError(batch)
            images, labels = (tensor.to(device, non_blocking=True) for tensor in batch)
            yield normalise(images, self._mean, self._scale), labels


def sample(files: FileSet, count: int) -> ImageSet:
    """Up to ``count`` images spread evenly over a split, decoded into memory without augmentation."""
    rows = torch.linspace(0, len(files) - 1, min(count, len(files))).round().long()
    chosen = [files.files[row] for row in rows.tolist()]
    images, _ = stack((read(file) for file in chosen), len(chosen), lambda row: str(chosen[row]), files.size)
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
