"""Batches of questions with their images: pure functions of (seed, epoch), with the interface of the image batches.

Each image is held once, however many questions there are about it: small ones as uint8, or the features of a CNN that
is not trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from filtersmith.lab.data.augment import normalise
from filtersmith.lab.data.batches import channel_stats
from filtersmith.lab.data.decode import read, stack
from filtersmith.lab.data.order import Batching, check_epoch, epoch_generator, epoch_order, global_sizes
from filtersmith.lab.data.records import ImageSet
from filtersmith.lab.tasks.vqa.records import QuestionSet

Inputs = tuple[Tensor, Tensor, Tensor]
"""Images, tokens, lengths, as the network takes them."""


class QuestionBatches:
    """Batches of one split.

    Everything random about an epoch, the order, is a pure function of ``seed`` and the epoch's number; a batch is the
    same bit for bit whether or not the ones before it were made. Images are not augmented: a mirrored image has other
    answers to what is left and right.

    Args:
        questions: The split.
        images: Of ``questions.files``, in order: uint8 (files, 3, h, w), which are normalised with the batching's
            ``mean`` and ``std``, or float32 (files, features), which are taken as they are.
        batching: How it is made into batches. Several processes take slices of one global batch.
        training: Leave out the questions whose answer can't be chosen; else keep all, and give their numbers.

    Raises:
        ValueError: images that are not those of the files, augmentation, no question to train on.
    """

    def __init__(self, questions: QuestionSet, images: Tensor, batching: Batching, *, training: bool) -> None:
        if len(images) != len(questions.files):
            raise ValueError(f"there are {len(images):,} images of {len(questions.files):,} files")
        if batching.augment is not None:
            raise ValueError(
                "images that questions are asked about are not augmented: the answers may be others then"
            )
        self.batching: Batching = batching
        self.training: bool = training
        device = batching.device
        rows = torch.arange(len(questions))
        self._rows = rows[questions.label >= 0] if training else rows
        if not len(self._rows):
            raise ValueError("no question has an answer that can be chosen" if training else "there are no questions")
        self._image, self._label, self._tokens, self._lengths = (
            one.to(device) for one in (questions.image, questions.label, questions.tokens, questions.lengths)
        )
        self._words = questions.lengths  # on the CPU, so that nothing waits for the device
        self._pictures = images.dtype == torch.uint8
        if self._pictures:
            self._images = images.permute(0, 2, 3, 1).contiguous().to(device)
            channels, height, width = images.shape[1:]
            self._mean, self._scale = batching.per_pixel(channels, height * width)
        else:
            self._images = images.to(device)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self.global_sizes)

    @property
    def global_sizes(self) -> list[int]:
        """Questions of each batch, over all ranks."""
        return global_sizes(len(self._rows), self.batching.batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Inputs, Tensor | tuple[Tensor, Tensor]]]:
        """Yield the batches of one epoch.

        Args:
            epoch: Number of the epoch, >= 0.
            start: Batches to skip, for a run that is resumed in the middle of an epoch.

        Yields:
            ``((images, tokens, lengths), labels)`` on the device: float32 images (b, 3, h, w)
            or features (b, features), int64 tokens as wide as the longest question of the global batch, int64
            labels. Where it is not ``training``, the second is ``(labels, numbers)``: places of the questions in the
            split, so that answers can be scored; labels may be -1.
        """
        check_epoch(epoch, start, len(self))
        return self._epoch(epoch, start)

    def _epoch(self, epoch: int, start: int) -> Iterator[tuple[Inputs, Tensor | tuple[Tensor, Tensor]]]:
        count, size = len(self._rows), self.batching.batch_size
        order = self._rows[epoch_order(count, self.batching.shuffle, epoch_generator(self.batching.seed, epoch))]
        for batch, (first, last) in enumerate(self.batching.spans(count, start), start):
            longest = int(self._words[order[batch * size : (batch + 1) * size]].max())
            rows = order[first:last].to(self.batching.device)
            inputs = (
                self._of_images(self._image[rows]),
                self._tokens[rows, : max(1, longest)],
                self._lengths[rows],
            )
            labels = self._label[rows]
            yield inputs, (labels if self.training else (labels, rows))

    def _of_images(self, places: Tensor) -> Tensor:
        images = self._images.index_select(0, places)
        if not self._pictures:
            return images
        return normalise(images, self._mean, self._scale, channels_last=self.batching.channels_last)


def load_images(files: Sequence[Path], image_size: int) -> Tensor:
    """All images as uint8 (files, 3, image_size, image_size), grey ones with three equal channels.

    Raises:
        ValueError: a file that can't be read as an image, by name, or more images than are held in memory: a smaller
            ``data.image_size``, or features of a CNN that is not trained, take less.
    """
    images, _ = stack((read(file) for file in files), len(files), lambda row: str(files[row]), image_size)
    return images.expand(-1, 3, -1, -1)


def image_stats(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of the training images, (3,) each, in units of 0..1.

    Args:
        images: uint8 (files, 3, h, w); each counts once, however many questions there are about it.
    """
    return channel_stats(ImageSet(images, torch.zeros(len(images), dtype=torch.int64)))
