"""Image files and bytes to uint8 tensors, many at a time."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import torch
from torch import Tensor

MEMORY_LIMIT = 4 * 2**30
"""Bytes of uint8 images that a split in memory may take."""

_BLOCK = 512  # images handed to the threads at a time, so that a large file is never decoded all at once


def need(module: str) -> Any:
    """Import a module of the ``vision`` extra, or say how to install it."""
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ValueError(f'{package} is not installed: pip install "filtersmith[vision]"') from error


def decode(data: bytes) -> Tensor:
    """One encoded image as uint8 (C, H, W): grey keeps 1 channel, everything else becomes RGB.

    Raises:
        ValueError: The bytes are no image that can be read.
    """
    # A copy, because torch warns about memory that Python does not let it write to.
    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)
    try:
        image: Tensor = need("torchvision.io").decode_image(encoded)
    except RuntimeError:
        return _decode_pil(data)
    # Alpha, CMYK, 16 bits, animations: Pillow knows what they mean.
    plain = image.dim() == 3 and image.shape[0] in (1, 3) and image.dtype == torch.uint8
    return image if plain else _decode_pil(data)


def _decode_pil(data: bytes) -> Tensor:
    import numpy as np
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.mode.startswith("I;16"):
                pixels = np.asarray(image).astype(np.uint16) >> 8  # convert("L") would clip at 255
            else:
                pixels = np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))
    except Exception as error:  # Pillow's plugins raise whatever their format's parser does
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error
    tensor = torch.from_numpy(pixels.astype(np.uint8))
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
        encoded: The images' bytes, in order; read by one thread, decoded by as many as torch uses.
        count: How many there are.
        where: Names image ``i`` in an error.
        image_size: See ``fit``; None demands that all have one size.

    Returns:
        uint8 (count, C, H, W) in channels-last memory; 1 channel if every image is grey, else 3.

    Raises:
        ValueError: An image cannot be read, sizes differ, or the whole is larger than ``MEMORY_LIMIT``.
    """

    def one(numbered: tuple[int, bytes]) -> Tensor:
        number, data = numbered
        try:
            image = decode(data)
        except ValueError as error:
            raise ValueError(f"{where(number)} cannot be read as an image: {error}") from error
        return fit(image, image_size) if image_size else image

    need("torchvision.io")  # before the threads, which would import it all at once
    result: Tensor | None = None
    numbered = iter(enumerate(encoded))
    with ThreadPoolExecutor(max(1, torch.get_num_threads())) as pool:
        while block := list(islice(numbered, _BLOCK)):
            for (number, _), image in zip(block, pool.map(one, block), strict=True):
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
        raise ValueError(f"{where(0)}: there are no images")
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
