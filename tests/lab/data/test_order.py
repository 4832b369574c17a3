"""Which images make up which batch: counting, and generators that share nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from filtersmith.lab.data.order import check_epoch, epoch_generator, epoch_order, rank_span


@given(count=st.integers(1, 200), size=st.integers(1, 50), world=st.integers(1, 7))
def test_the_ranks_share_every_batch_evenly_and_leave_nothing_out(count: int, size: int, world: int) -> None:
    images = list(range(count))
    for batch, start in enumerate(range(0, count, size)):
        spans = [rank_span(batch, count, size, rank, world) for rank in range(world)]
        shares = [images[first:last] for first, last in spans]
        assert [image for share in shares for image in share] == images[start : start + size]
        lengths = [last - first for first, last in spans]
        assert min(lengths) >= 0
        assert max(lengths) - min(lengths) <= 1


def test_orders_are_permutations_that_no_two_epochs_or_seeds_share() -> None:
    orders = {
        (seed, epoch): tuple(epoch_order(50, True, epoch_generator(seed, epoch)).tolist())
        for seed in (0, 1, 2, 10**6)
        for epoch in (0, 1, 2, 999)
    }
    assert len(set(orders.values())) == len(orders)
    assert all(sorted(order) == list(range(50)) for order in orders.values())
    assert orders[1, 2] == tuple(epoch_order(50, True, epoch_generator(1, 2)).tolist())
    assert epoch_order(5, False, epoch_generator(0, 0)).tolist() == [0, 1, 2, 3, 4]


def test_neighbouring_seeds_and_epochs_draw_independently() -> None:
    firsts = torch.stack(
        [torch.rand(200, generator=epoch_generator(seed, epoch)) for seed in range(8) for epoch in range(8)]
    )
    correlations = torch.corrcoef(firsts) - torch.eye(len(firsts))
    assert correlations.abs().max() < 5 / 200**0.5
    # The pair is what counts, not its sum.
    assert not torch.equal(firsts[1], firsts[8])


def test_an_epoch_or_a_start_that_does_not_exist_is_named() -> None:
    check_epoch(0, 3, 3)
    for epoch, start, message in (
        (-1, 0, "epoch must be a whole number >= 0, got -1"),
        (0, 4, "start must be from 0 to 3, the batches of an epoch, got 4"),
        (0, -1, "start must be from 0 to 3, the batches of an epoch, got -1"),
    ):
        with pytest.raises(ValueError, match=f"^{message}$"):
            check_epoch(epoch, start, 3)
