"""Image files and bytes to uint8 tensors, many at a time."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from filtersmith.common.words import in_words
from filtersmith.lab.data.records import Sizes

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

    Turned upright where the file says how the camera was held. Of several frames the first; transparency is dropped,
    which leaves the colours below it. 16 bits lose their lower 8; floats from 0 to 1 are scaled to 0 to 255.

    Raises:
        ValueError: The bytes are no image that can be read, or its numbers have no known range.
    """
    import numpy as np
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as opened:
            turn = _turn(opened)
            if turn is None and opened.format == "JPEG" and opened.mode in ("L", "RGB"):
                fast = _fast_jpeg(data)
                if fast is not None:
                    return fast
            image = opened if turn is None else opened.transpose(turn)
            if image.mode.startswith("I"):  # which convert("L") would clip at 255
                pixels = _from_integers(np.asarray(image).astype(np.int64), opened)
            elif image.mode == "F":
                pixels = _from_floats(np.asarray(image))
            else:
                mode = "L" if image.mode in ("1", "L") else "RGB"
                pixels = np.array(image if image.mode == mode else image.convert(mode))
    except Exception as error:  # Pillow's plugins raise whatever their format's parser does
        raise ValueError(in_words(error)) from error
    tensor = torch.from_numpy(pixels)
    return tensor[None] if tensor.dim() == 2 else tensor.permute(2, 0, 1)


def _fast_jpeg(data: bytes) -> Tensor | None:
    """A plain JPEG by torchvision, which gives the pixels that Pillow gives in less time, or None: then Pillow reads
    what it can, or says what is wrong."""
    reader = _jpeg_reader()
    if reader is None:
        return None
    try:
        image: Tensor = reader(torch.frombuffer(bytearray(data), dtype=torch.uint8), 0, False)  # as it is stored
    except RuntimeError:
        return None
    return image


@cache
def _jpeg_reader() -> Any:
    """The operator below ``torchvision.io.decode_jpeg``, which warns at each call that later versions may lack it."""
    import importlib

    try:
        importlib.import_module("torchvision.io")
        return torch.ops.image.decode_jpeg.default
    except (ImportError, AttributeError):
        return None


def in_colour(file: Path) -> Tensor:
    """An image file as uint8 (3, H, W), a grey one with three equal channels; ``ValueError`` names the file."""
    data = read(file)
    try:
        return decode(data).expand(3, -1, -1)
    except ValueError as error:
        raise ValueError(f"{file} cannot be read as an image: {error}") from error


def size_of(file: Path) -> tuple[int, int]:
    """Height and width of the image as `decode` gives it, from the file's header."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            # Pillow reads the whole of a PNG to see if a tag comes last; where one does, this is the size as stored.
            late = image.format == "PNG" and "exif" not in image.info
            turn = None if late else _turn(image)
            across = turn in (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270)
            across = across or turn in (Image.Transpose.TRANSPOSE, Image.Transpose.TRANSVERSE)
            return (image.width, image.height) if across else (image.height, image.width)
    except Exception as error:  # Pillow's plugins raise whatever their format's parser does
        raise ValueError(f"{file} cannot be read as an image: {' '.join(str(error).split())}") from error


def _turn(image: Any) -> Any:
    """Pillow's word for how to bring an image upright, or None.

    Not ``ImageOps.exif_transpose``: it fails on a damaged tag that has nothing to do with the pixels.
    """
    from PIL import Image

    if image.format == "TIFF":  # Pillow turns these itself
        return None
    try:
        orientation = image.getexif().get(0x0112)
    except Exception:  # whatever the parser raises: an image without a readable tag is as it is
        return None
    turns = Image.Transpose
    return {
        2: turns.FLIP_LEFT_RIGHT,
        3: turns.ROTATE_180,
        4: turns.FLIP_TOP_BOTTOM,
        5: turns.TRANSPOSE,
        6: turns.ROTATE_270,
        7: turns.TRANSVERSE,
        8: turns.ROTATE_90,
    }.get(orientation)


def _from_integers(pixels: Any, image: Any) -> Any:
    """16 bits as 8. A TIFF of Pillow's mode I has 32 bits, or a sign; what is black and white there nobody knows."""
    if (image.mode == "I" and image.format == "TIFF") or pixels.min() < 0 or pixels.max() > 0xFFFF:
        raise ValueError(
            "its whole numbers of 32 bits, or with a sign, have no known range; save it with 8 or 16 bits"
        )
    return (pixels >> 8).astype("uint8")


def _from_floats(pixels: Any) -> Any:
    low, high = pixels.min(), pixels.max()
    if not (low >= 0 and high <= 1):  # also where one is not a number
        raise ValueError(f"its floats go from {low:g} to {high:g}, but only 0 to 1 has a known meaning; scale them")
    return (pixels * 255).round().astype("uint8")


def fit(images: Tensor, size: int, share: float = 1.0) -> Tensor:
    """Resize the short side of uint8 (..., C, H, W) and cut out the centre square of ``size`` pixels.

    Args:
        images: Those that have this size already stay as they are.
        size: Side of the square.
        share: So much of the short side is cut out; of 224 pixels 0.875 means that the short side becomes 256.
    """
    functional = need("torchvision.transforms.v2.functional")
    if images.shape[-2:] == (size, size):
        return images
    resized = functional.resize(images, [round(size / share)], antialias=True)
    cropped: Tensor = functional.center_crop(resized, [size, size])
    return cropped


def stack(
    encoded: Iterator[bytes] | Sequence[bytes],
    count: int,
    where: Callable[[int], str],
    image_size: int | None,
) -> tuple[Tensor, Sizes | None]:
    """Decode ``count`` images into one tensor.

    Args:
        encoded: The images' bytes, in order; read by one thread, decoded by as many threads as torch uses.
        count: How many there are.
        where: Names image ``i`` in an error.
        image_size: See ``fit``; None demands that all have one size.

    Returns:
        uint8 (count, C, H, W) in channels-last memory; 1 channel if every image is grey, else 3. And what sizes the
        images had, if they were to be resized.

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
        if not image_size:
            return image
        sizes.add((image.shape[1], image.shape[2]))
        return fit(image, image_size)

    need("PIL.Image")
    sizes: set[tuple[int, int]] = set()
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
    return result.permute(0, 3, 1, 2), Sizes.of(sizes) if sizes else None


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
