"""Image bytes to tensors: every mode of file against Pillow, many at a time, and one line for what cannot be."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from reference.pictures import encoded, pixels

from filtersmith.lab.data import decode as decoding
from filtersmith.lab.data.decode import decode, fit, need, read, size_of, stack
from filtersmith.lab.data.records import Sizes


def saved(image: Image.Image, kind: str = "png") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def where(number: int) -> str:
    return f"image {number}"


def test_every_mode_becomes_grey_or_rgb() -> None:
    colour, grey = Image.fromarray(pixels(0)), Image.fromarray(pixels(1, channels=1))
    with_alpha = Image.fromarray(np.dstack([pixels(0), pixels(2, channels=1)]))
    palette = colour.convert("P")
    black = grey.convert("1")
    for image, expected in (
        (colour, pixels(0)),
        (with_alpha, pixels(0)),
        (palette, np.asarray(palette.convert("RGB"))),
        (grey, pixels(1, channels=1)),
        (black, np.asarray(black.convert("L"))),
        (Image.fromarray(pixels(3, channels=1).astype(np.uint16) * 256 + 5), pixels(3, channels=1)),
    ):
        found = decode(saved(image))
        assert found.dtype == torch.uint8
        assert np.array_equal(found.permute(1, 2, 0), expected if expected.ndim == 3 else expected[..., None])


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_is_what_pillow_makes_of_it(mode: str, progressive: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain ones are read by torchvision, in every subsampling and at odd sizes; the others are left to Pillow."""
    pytest.importorskip("torchvision")
    for number, size in enumerate([(375, 500), (33, 17), (1, 3)]):
        image = (
            Image.fromarray(pixels(number, size=(5, 7))).resize(size[::-1], Image.Resampling.BICUBIC).convert(mode)
        )
        for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
            buffer = io.BytesIO()
            image.save(buffer, "jpeg", quality=80, subsampling=subsampling, progressive=progressive)
            with Image.open(buffer) as opened:
                expected = torch.from_numpy(np.array(opened if mode == "L" else opened.convert("RGB")))
            found = decode(buffer.getvalue())
            assert torch.equal(found, expected[None] if mode == "L" else expected.permute(2, 0, 1))
            assert (decoding._fast_jpeg(buffer.getvalue()) is not None) or mode == "CMYK"
    monkeypatch.setattr(decoding, "_jpeg_reader", lambda: None)  # as of a torchvision without it
    assert torch.equal(decode(buffer.getvalue()), found)


def test_a_jpeg_that_is_cut_off_is_refused_by_pillow() -> None:
    buffer = io.BytesIO()
    Image.fromarray(pixels(0, size=(40, 60))).save(buffer, "jpeg")
    with pytest.raises(ValueError, match=r"^image file is truncated"):
        decode(buffer.getvalue()[:-200])


@pytest.mark.parametrize("data", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + bytes(50), encoded(0)[:60]])
def test_what_is_no_image_is_one_line(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        decode(data)
    assert "\n" not in str(caught.value)


def test_many_are_stacked_in_their_order_whatever_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    data = [encoded(n) for n in range(11)]
    expected = torch.stack([decode(one) for one in data])
    monkeypatch.setattr(decoding, "_BLOCK", 2)
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found, sizes = stack(iter(data), 11, where, None)
        assert sizes is None
        assert torch.equal(found, expected)
        assert found.is_contiguous(memory_format=torch.channels_last)


def test_one_in_colour_makes_all_of_three_channels() -> None:
    grey = [encoded(n, channels=1) for n in range(2)]
    assert stack(grey, 2, where, None)[0].shape == (2, 1, 8, 8)
    found, _ = stack([*grey, encoded(2), encoded(3, channels=1)], 4, where, None)
    assert found.shape == (4, 3, 8, 8)
    for number in (0, 1, 3):
        assert np.array_equal(found[number], np.stack([pixels(number, channels=1)] * 3))
    assert np.array_equal(found[2].permute(1, 2, 0), pixels(2))


def test_what_does_not_fit_together_is_named() -> None:
    with pytest.raises(ValueError, match=r"^there are no images$"):
        stack([], 0, where, None)
    wide = encoded(1, size=(8, 9))
    with pytest.raises(
        ValueError, match=r"image 0 is 8x8 pixels, image 1 is 9x8 \(width x height\); data\.image_size=64"
    ):
        stack([encoded(0), wide], 2, where, None)
    with pytest.raises(ValueError, match=r"^image 1 cannot be read as an image: "):
        stack([encoded(0), b"no image"], 2, where, None)


def test_more_than_memory_may_take_is_refused_before_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MEMORY_LIMIT", 2 * 3 * 64)
    assert len(stack([encoded(0), encoded(1)], 2, where, None)[0]) == 2
    with pytest.raises(ValueError, match=r"^3 images of 8x8 pixels \(like image 0\) take 0\.0 GiB, more than"):
        stack([encoded(0)], 3, where, None)


def test_the_short_side_is_resized_and_the_centre_cut_out() -> None:
    pytest.importorskip("torchvision")
    wide = torch.zeros(2, 3, 4, 12, dtype=torch.uint8)
    wide[..., 4:8] = 200
    assert (fit(wide, 4) == 200).all()
    for image in (wide, wide.transpose(-1, -2)):
        small = fit(image, 2)
        assert small.shape == (2, 3, 2, 2)
        assert small.dtype == torch.uint8
        assert fit(image, 8).shape == (2, 3, 8, 8)
    square = torch.randint(256, (3, 5, 5), dtype=torch.uint8)
    assert fit(square, 5) is square
    assert fit(square, 5, 0.5) is square
    large = fit(wide, 2, 0.5)
    assert torch.equal(large, wide[..., 1:3, 5:7]), "of a short side of 4 the middle 2"


def test_a_file_that_is_not_there_and_a_library_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").write_bytes(b"bytes")
    assert read(tmp_path / "here") == b"bytes"
    with pytest.raises(ValueError, match=f"^{tmp_path}/absent cannot be read: No such file or directory$"):
        read(tmp_path / "absent")
    assert need("PIL.Image") is Image
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ValueError, match=r'^PIL is not installed: pip install "filtersmith\[vision\]"$'):
        need("PIL.Image")


@pytest.mark.parametrize("kind", ["png", "jpeg", "tiff", "webp"])
@pytest.mark.parametrize("orientation", range(1, 10))
def test_pictures_are_turned_upright(tmp_path: Path, orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / f"picture.{kind}"
    Image.fromarray(pixels(0, size=(6, 10))).save(file, exif=exif)
    found = decode(file.read_bytes())
    with Image.open(file) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert np.array_equal(found.permute(1, 2, 0), expected)
    across = 5 <= orientation <= 8
    assert size_of(file) == tuple(found.shape[1:]) == ((10, 6) if across else (6, 10))


def test_a_damaged_tag_does_not_cost_the_picture() -> None:
    buffer = io.BytesIO()
    Image.fromarray(pixels(0)).save(buffer, "png", exif=b"Exif\x00\x00no tags here")
    assert np.array_equal(decode(buffer.getvalue()).permute(1, 2, 0), pixels(0))


def test_numbers_without_a_known_range_are_refused() -> None:
    zero_to_one = pixels(0, channels=1).astype(np.float32) / 255
    assert np.array_equal(decode(saved(Image.fromarray(zero_to_one), "tiff"))[0], pixels(0, channels=1))
    sixteen = pixels(0, channels=1).astype(np.uint16) * 256 + 200
    for kind in ("png", "tiff", "ppm"):
        assert np.array_equal(decode(saved(Image.fromarray(sixteen), kind))[0], pixels(0, channels=1))
    for wrong, text in (
        (zero_to_one * 255, r"^its floats go from 4 to 248, but only 0 to 1 has a known meaning; scale them$"),
        (zero_to_one - 0.5, r"^its floats go from -0\.48"),
        (zero_to_one * np.nan, r"^its floats go from nan to nan"),
        (sixteen.astype(np.int32) * 9, r"^its whole numbers of 32 bits, or with a sign, have no known range"),
        (pixels(0, channels=1).astype(np.int32), r"^its whole numbers of 32 bits"),
    ):
        with pytest.raises(ValueError, match=text):
            decode(saved(Image.fromarray(wrong), "tiff"))


def test_sizes_are_those_before_resizing() -> None:
    pytest.importorskip("torchvision")
    data = [encoded(0, size=(8, 20)), encoded(1, size=(30, 9))]
    images, sizes = stack(data, 2, where, 4)
    assert images.shape == (2, 3, 4, 4)
    assert sizes == Sizes(heights=(8, 30), widths=(9, 20))
