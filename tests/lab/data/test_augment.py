"""Crops, mirror images and normalisation against one image after the other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference.crop_flip import crop_flip_one_by_one, normalise_one_by_one

from filtersmith.lab.data import Augment
from filtersmith.lab.data.augment import crop_flip, draw, normalise, per_channel


@given(
    count=st.integers(0, 9),
    channels=st.sampled_from([1, 3, 4]),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    pad=st.integers(0, 5),
    flip=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_crop_and_flip_are_the_slow_ones_bit_for_bit(
    count: int, channels: int, height: int, width: int, pad: int, flip: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (count, channels, height, width), dtype=torch.uint8, generator=generator)
    augment = Augment(pad, flip)
    draws = draw(count, augment, generator)
    ours = crop_flip(images.permute(0, 2, 3, 1).contiguous(), augment, draws).permute(0, 3, 1, 2)
    assert torch.equal(ours, crop_flip_one_by_one(images, pad, draws.top, draws.left, draws.flip))


@given(height=st.integers(2, 9), width=st.integers(2, 9), pad=st.integers(1, 5), seed=st.integers(0, 2**32))
def test_reflected_crops_are_the_slow_ones_bit_for_bit(height: int, width: int, pad: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (5, 3, height, width), dtype=torch.uint8, generator=generator)
    augment = Augment(pad, True, reflect=True)
    draws = draw(5, augment, generator)
    planes = images.permute(0, 2, 3, 1).contiguous()
    if pad >= min(height, width):
        with pytest.raises(ValueError, match=rf"augment.pad must be below height and width to reflect, got {pad}"):
            crop_flip(planes, augment, draws)
        return
    ours = crop_flip(planes, augment, draws).permute(0, 3, 1, 2)
    assert torch.equal(ours, crop_flip_one_by_one(images, pad, draws.top, draws.left, draws.flip, reflect=True))


def test_every_crop_and_both_directions_are_drawn() -> None:
    draws = draw(4000, Augment(2, True), torch.Generator().manual_seed(0))
    assert torch.bincount(draws.top * 5 + draws.left, minlength=25).min() > 100
    assert abs(draws.flip.float().mean() - 0.5) < 0.03
    assert not draw(100, Augment(2, False), torch.Generator().manual_seed(0)).flip.any()


def test_choices_are_a_function_of_the_generator_and_of_the_place() -> None:
    augment = Augment(3, True)
    draws, again, fewer = (draw(n, augment, torch.Generator().manual_seed(7)) for n in (9, 9, 8))
    assert all(torch.equal(getattr(draws, name), getattr(again, name)) for name in ("top", "left", "flip"))
    assert not torch.equal(draws.top[:8], fewer.top) or not torch.equal(draws.left[:8], fewer.left)
    places = torch.tensor([5, 0, 5])
    chosen, part = draws.at(places), draws.part(2, 5)
    for name in ("top", "left", "flip"):
        whole = getattr(draws, name)
        assert torch.equal(getattr(chosen, name), whole[places])
        assert torch.equal(getattr(part, name), whole[2:5])
    assert draws.to(torch.device("meta")).flip.device.type == "meta"


def test_normalised_pixels_are_those_of_the_formula_and_do_not_depend_on_the_batch() -> None:
    images = torch.randint(256, (5, 3, 4, 6), dtype=torch.uint8)
    mean, std = torch.rand(3), torch.rand(3) + 0.1
    rows = images.permute(0, 2, 3, 1).contiguous()
    flat = [(255 * values).repeat(4 * 6) for values in (mean, std)]
    found = normalise(rows, flat[0], 1 / flat[1])
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found.double(), normalise_one_by_one(images, mean, std), rtol=1e-5, atol=1e-5)
    for number in range(5):
        assert torch.equal(normalise(rows[number : number + 1], flat[0], 1 / flat[1])[0], found[number])


@pytest.mark.parametrize("value", [[1.0], [1, 2, 3, 4], 1.0, torch.ones(3, 1)])
def test_statistics_are_one_number_a_channel(value: Any) -> None:
    assert torch.equal(per_channel("std", (1, 2, 3), 3), torch.tensor([1.0, 2.0, 3.0]))
    assert per_channel("std", torch.ones(3, dtype=torch.float64), 3).dtype == torch.float32
    with pytest.raises(ValueError, match=r"^std must be one number per channel, 3 in all, got ") as caught:
        per_channel("std", value, 3)
    assert "\n" not in str(caught.value)
