"""Image files and bytes to uint8 tensors, many at a time."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

MEMORY_LIMIT = 4 * 2**30
"""Bytes of uint8 images that a split in memory may take."""

_BLOCK = 64  # images handed to a thread at a time: small ones are worth no hand-over, large ones no hoarding


def need(module: str) -> Any:
    """Import a module of the ``vision`` extra, or say how to install it."""
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ValueError(f'{package} is not installed: pip install "filtersmith[vision]"') from error


def read(file: Path) -> bytes:
    """The contents of ``file``, or a one-line ValueError that names it."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from error


def decode(data: bytes) -> Tensor:
    """One encoded image as uint8 (C, H, W): grey keeps 1 channel, everything else becomes RGB.

    Raises:
        ValueError: The bytes are no image that can be read.
    """
    import numpy as np
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.mode.startswith("I"):  # 16 bits, which convert("L") would clip at 255
                pixels = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
            else:
                pixels = np.array(image.convert("L" if image.mode in ("1", "L") else "RGB"))
    except Exception as error:  # Pillow's plugins raise whatever their format's parser does
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error
    tensor = torch.from_numpy(pixels)
    return tensor[None] if tensor.dim() == 2 else tensor.permute(2, 0, 1)


def fit(images: Tensor, size: int) -> Tensor:
    """Resize the short side of uint8 (..., C, H, W) to ``size`` pixels and crop the centre square."""
    functional = need("torchvision.transforms.v2.functional")
    if images.shape[-2:] == (size, size):
        return images
    resized = functional.resize(images, [size], antialias=True)
    cropped: Tensor = functional.center_crop(resized, [size, size])
    return cropped


def stack(
    encoded: Iterator[bytes] | Sequence[bytes],
    count: int,
    where: Callable[[int], str],
    image_size: int | None,
) -> Tensor:
    """Decode ``count`` images into one tensor.

    Args:
        encoded: The images' bytes, in order; read by one thread, decoded by as many threads as torch uses.
        count: How many there are.
        where: Names image ``i`` in an error.
        image_size: See ``fit``; None demands that all have one size.

    Returns:
        uint8 (count, C, H, W) in channels-last memory; 1 channel if every image is grey, else 3.

    Raises:
        ValueError: An image cannot be read, sizes differ, or the whole is larger than ``MEMORY_LIMIT``.
    """

    def several(block: list[tuple[int, bytes]]) -> list[tuple[int, Tensor]]:
        return [(number, one(number, data)) for number, data in block]

    def one(number: int, data: bytes) -> Tensor:
        try:
            image = decode(data)
        except ValueError as error:
            raise ValueError(f"{where(number)} cannot be read as an image: {error}") from error
        return fit(image, image_size) if image_size else image

    need("PIL.Image")
    result: Tensor | None = None
    numbered = iter(enumerate(encoded))
    threads = max(1, torch.get_num_threads())
    with ThreadPoolExecutor(threads) as pool:
        while blocks := [block for _ in range(threads) if (block := list(islice(numbered, _BLOCK)))]:
            for number, image in chain.from_iterable(pool.map(several, blocks)):
                if result is None:
                    result = _room(count, image, where)
                if image.shape[1:] != result.shape[1:3]:
                    raise ValueError(
                        unequal(where(0), tuple(result.shape[1:3]), where(number), tuple(image.shape[1:]))
                    )
                if image.shape[0] > result.shape[3]:  # the first colour image after grey ones
                    result = result.repeat(1, 1, 1, 3)
                result[number] = image.permute(1, 2, 0)
    if result is None:
        raise ValueError("there are no images")
    return result.permute(0, 3, 1, 2)


def unequal(first: str, first_size: tuple[int, ...], other: str, other_size: tuple[int, ...]) -> str:
    """The message about two images of different (height, width)."""
    return (
        f"images differ in size: {first} is {first_size[1]}x{first_size[0]} pixels, {other} is "
        f"{other_size[1]}x{other_size[0]} (width x height); data.image_size=64 resizes (short side) and "
        "centre-crops every image"
    )


def _room(count: int, image: Tensor, where: Callable[[int], str]) -> Tensor:
    channels, height, width = image.shape
    size = count * channels * height * width
    if size > MEMORY_LIMIT:
        raise ValueError(
            f"{count:,} images of {width}x{height} pixels (like {where(0)}) take {size / 2**30:.1f} GiB, more than "
            f"the {MEMORY_LIMIT / 2**30:.0f} GiB held in memory; set a smaller data.image_size"
        )
    return torch.empty(count, height, width, channels, dtype=torch.uint8)
