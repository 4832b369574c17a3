"""Computing without autocast inside of autocast."""

from __future__ import annotations

import torch

from filtersmith.common.precision import without_autocast


def test_it_is_off_inside_and_on_again_behind_also_after_an_error() -> None:
    left, right = torch.randn(2, 4, 4).unbind()
    with torch.autocast("cpu", torch.bfloat16):
        with without_autocast(left):
            product = left @ right
        assert (left @ right).dtype == torch.bfloat16
        try:
            with without_autocast(left):
                raise KeyError
        except KeyError:
            pass
        assert (left @ right).dtype == torch.bfloat16
    assert torch.equal(product, left @ right)
    assert product.dtype == torch.float32


def test_a_device_without_autocast_does_not_matter() -> None:
    like = torch.empty(2, device="meta")
    assert not torch.amp.is_autocast_available("meta")
    with torch.autocast("cpu", torch.bfloat16), without_autocast(like):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
