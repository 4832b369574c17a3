"""Batches of images with boxes: decoded, scaled and mirrored by worker processes while the network trains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from filtersmith.lab.data.decode import in_colour, need
from filtersmith.lab.data.loading import Loading
from filtersmith.lab.data.order import Batching, check_epoch, epoch_generator, epoch_order, global_sizes
from filtersmith.lab.data.records import Augment
from filtersmith.lab.data.transforms import choices_of
from filtersmith.lab.tasks.detection.records import DetectionSet, scaled_size

Pair = tuple[list[Tensor], list[dict[str, Tensor]]]


class DetectionBatches:
    """Batches of a split on disk, with the interface and the promises of `filtersmith.lab.data.StreamBatches`.

    The short side of every image is scaled to the split's size (the long one to at most 1333/800 of it), and boxes
    with it; nothing is cropped. Each image's random choices are a pure function of (seed, epoch, image), so that
    neither the number of workers nor a resumption changes them. Colours from 0 to 1 are not normalised: detectors do
    that themselves, so ``mean`` and ``std`` of ``batching`` have no meaning here.

    Args:
        images: The split.
        batching: How it is made into batches. With ``augment.flip`` an image is mirrored with probability 1/2, with
            ``augment.color`` brightness, contrast, saturation, hue and channels change at random (SSD's photometric
            distortion); ``augment.pad`` has no meaning here.
        train: Leave ignored boxes out of the targets; else they stay, and ``iscrowd`` says which these are.
        workers: Processes that decode; 0 decodes in this one.

    Raises:
        ValueError: ``workers`` is no whole number, or images are to be changed in evaluation.
    """

    def __init__(self, images: DetectionSet, batching: Batching, *, train: bool, workers: int = 2) -> None:
        if not train and batching.augment:
            raise ValueError("augment changes images at random: it is for training")
        self.batching = batching
        self._samples = _Samples(images, batching.seed, batching.augment, train=train)
        self._loading = Loading(self._samples, workers=workers, pin=batching.device.type == "cuda", stay=train)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self.global_sizes)

    @property
    def global_sizes(self) -> list[int]:
        """Images of each batch, over all ranks."""
        return global_sizes(len(self._samples), self.batching.batch_size)

    def epoch(self, number: int, start: int = 0) -> Iterator[Pair]:
        """Yield the batches of one epoch.

        Args:
            number: Of the epoch, >= 0.
            start: Batches to skip, for a run that is resumed in the middle of an epoch.

        Yields:
            Images, float32 (3, height, width) from 0 to 1, and their targets: ``boxes`` float32 (n, 4), x1 y1 x2 y2
            in pixels of the image, and ``labels`` int64 (n,), from 1; for evaluation also ``iscrowd``, int64 (n,), 0
            or 1. All on the device. A small last batch may leave a rank two empty lists.

        Raises:
            ValueError: While iterating, a file that cannot be read, by name.
        """
        check_epoch(number, start, len(self))
        return self._epoch(number, start)

    def _epoch(self, epoch: int, start: int) -> Iterator[Pair]:
        count, generator = len(self._samples), epoch_generator(self.batching.seed, epoch)
        order = epoch_order(count, self.batching.shuffle, generator).tolist()
        spans = self.batching.spans(count, start)
        wanted = [[(epoch, index) for index in order[first:last]] for first, last in spans]
        for batch in self._loading.batches(wanted):
            yield batch.unpacked(self.batching.device)


class _Packed(NamedTuple):
    """A batch in a few tensors, which are quicker to hand from process to process and to a GPU than many."""

    pixels: Tensor  # uint8, all images one after another
    sizes: Tensor  # int64 (b, 2), height and width of each image
    counts: Tensor  # int64 (b,), boxes of each image
    boxes: Tensor
    numbers: Tensor  # int64 (boxes, 1 or 2): label, and for evaluation whether it is ignored

    def unpacked(self, device: torch.device) -> Pair:
        """On the device, image by image."""
        sizes, counts = self.sizes.tolist(), self.counts.tolist()
        pixels = self.pixels.to(device, non_blocking=True).float().div_(255)
        boxes, numbers = (one.to(device, non_blocking=True) for one in (self.boxes, self.numbers))
        flat = pixels.split([3 * height * width for height, width in sizes])
        images = [one.view(3, height, width) for one, (height, width) in zip(flat, sizes, strict=True)]
        targets = []
        for of_one, numbers_of_one in zip(boxes.split(counts), numbers.split(counts), strict=True):
            named = zip(("labels", "iscrowd"), numbers_of_one.unbind(1), strict=False)
            targets.append({"boxes": of_one, **{name: column.contiguous() for name, column in named}})
        return images, targets


class _Samples(Dataset[Any]):
    """Images with their boxes by (epoch, index), a whole batch at a time, ready-made for a DataLoader."""

    def __init__(self, images: DetectionSet, seed: int, augment: Augment | None, *, train: bool) -> None:
        self.images, self.seed, self.train = images, seed, train
        v2 = need("torchvision.transforms.v2")
        steps = [v2.RandomPhotometricDistort()] if augment and augment.color else []
        steps += [v2.RandomHorizontalFlip()] if augment and augment.flip else []
        self.transform = v2.Compose(steps) if steps else None

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, keys: list[tuple[int, int]]) -> _Packed | str:
        """The batch; or what is wrong, because an error raised in a worker arrives as a page of traceback."""
        none = torch.empty(0, dtype=torch.uint8), torch.empty(0, 4), torch.empty(0, 1 if self.train else 2).long()
        try:
            made = [self._sample(epoch, index) for epoch, index in keys]
        except ValueError as error:
            return str(error)
        pixels, boxes, numbers = (list(column) for column in zip(*made, strict=True)) if made else ([], [], [])
        return _Packed(
            torch.cat([none[0], *(image.flatten() for image in pixels)]),
            torch.tensor([image.shape[1:] for image in pixels], dtype=torch.int64),
            torch.tensor([len(one) for one in boxes], dtype=torch.int64),
            torch.cat([none[1], *boxes]),
            torch.cat([none[2], *numbers]),
        )

    def _sample(self, epoch: int, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """uint8 (3, h, w), boxes, and the numbers of `_Packed`."""
        file, target = self.images.files[index], self.images.targets[index]
        image = in_colour(file)
        height, width = image.shape[1:]
        if (height, width) != self.images.sizes[index]:
            said = "{1}x{0}".format(*self.images.sizes[index])
            raise ValueError(f"{file} has {width}x{height} pixels, but its header said {said} when the set was read")
        kept = ~target.ignored if self.train else torch.ones_like(target.ignored)
        columns = [target.labels] if self.train else [target.labels, target.ignored.long()]
        pixels, boxes = self._changed(image, target.boxes[kept], epoch, index)
        return pixels, boxes, torch.stack(columns, 1)[kept]

    def _changed(self, image: Tensor, boxes: Tensor, epoch: int, index: int) -> tuple[Tensor, Tensor]:
        """Scaled, and with this image's random changes of this epoch."""
        tv, functional = need("torchvision.tv_tensors"), need("torchvision.transforms.v2.functional")
        size = image.shape[1], image.shape[2]
        pair = tv.Image(image), tv.BoundingBoxes(boxes, format="XYXY", canvas_size=size)
        if (wanted := scaled_size(*size, self.images.size)) != size:
            pair = tuple(functional.resize(one, list(wanted), antialias=True) for one in pair)
        if self.transform:
            with choices_of(self.seed, epoch, index):
                pair = self.transform(*pair)
        return pair[0].as_subclass(Tensor), pair[1].as_subclass(Tensor)
