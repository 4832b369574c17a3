"""New directions for dropped filters: what section 3.3 of the specification asks, and 3.7.5 and 3.7.6."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from filtersmith.pruning.orthogonal import restart

KINDS = ["orthogonal", "kept only", "least overlap", "random"]


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def rank(rows: Tensor) -> int:
    rows = torch.nn.functional.normalize(rows.double(), eps=1e-300)
    return int(torch.linalg.matrix_rank(rows, rtol=1e-6)) if len(rows) else 0


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """``|cos|`` in float32; 0 where a filter is 0."""
    a, b = (torch.nn.functional.normalize(rows.double(), eps=1e-300).float() for rows in (a, b))
    return (a @ b.T).abs()


@st.composite
def layers(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Dropped and kept filters, some of them 0 or copies of others; few or many for their dimensions."""
    dropped, stay, size = draw(st.integers(0, 6)), draw(st.integers(0, 8)), draw(st.integers(1, 16))
    torch.manual_seed(draw(st.integers(0, 1000)))
    filters = torch.randn(dropped + stay, size)
    for row in draw(st.lists(st.integers(0, max(len(filters) - 1, 0)), max_size=6)) if len(filters) else ():
        filters[row] = filters[draw(st.integers(0, len(filters) - 1))] * draw(st.sampled_from((0.0, -1.0, 1e-20)))
    return filters[:dropped], filters[dropped:]


@given(layer=layers())
@settings(max_examples=100)
def test_the_ladder(layer: tuple[Tensor, Tensor]) -> None:
    old, kept = layer
    size = old.shape[1]
    new, counts = restart(old, kept, seeded())
    assert (new.shape, new.dtype, new.device.type) == (old.shape, torch.float64, "cpu")
    torch.testing.assert_close(new.norm(dim=1), torch.ones(len(old), dtype=torch.float64))
    assert list(counts) == KINDS
    assert sum(counts.values()) == len(old)

    # As many of each kind as there are, counted by torch's own rank.
    orthogonal = min(len(old), size - rank(torch.cat([old, kept])))
    kept_only = min(len(old) - orthogonal, size - rank(kept) - orthogonal)
    assert (counts["orthogonal"], counts["kept only"]) == (orthogonal, kept_only)
    assert counts["least overlap"] <= rank(kept)

    strict, free = new[:orthogonal], new[: orthogonal + kept_only]
    distinct = new[: len(new) - counts["random"]]
    assert not (cosines(strict, old) > 1e-5).any()
    assert not (cosines(free, kept) > 1e-5).any()
    among = cosines(distinct, distinct).fill_diagonal_(0)
    assert not (among > 1e-5).any()


def test_wide_filters_find_room_for_all() -> None:
    old, kept = torch.randn(60, 1152), torch.randn(140, 1152)
    kept[3:6] = kept[0]  # a rank below the number of rows
    new, counts = restart(old, kept, seeded())
    assert counts["orthogonal"] == 60
    assert cosines(new, torch.cat([old, kept])).max() <= 1e-5
    assert (cosines(new, new) - torch.eye(60)).abs().max() <= 1e-5


def orthogonal_filters(n: int) -> Tensor:
    return torch.linalg.qr(torch.randn(n, n))[0]


@pytest.mark.parametrize(
    ("old", "kept"),
    [
        (torch.randn(12, 27, generator=seeded(1)), torch.randn(40, 27, generator=seeded(2))),
        (torch.randn(70, 64, generator=seeded(3)), torch.randn(180, 64, generator=seeded(4))),
        (torch.randn(3, 16, generator=seeded(5)), torch.eye(16)),  # every direction has the same squared overlap
        (torch.randn(31, 27, generator=seeded(6)), torch.randn(1, 27, generator=seeded(7))),
        (torch.randn(6, 9, generator=seeded(8)), torch.eye(9)[torch.arange(40) % 9]),
    ],
    ids=["first layer", "1x1", "orthogonal", "one left", "copies"],
)
def test_without_room_they_come_no_nearer_to_kept_filters_than_random_ones(old: Tensor, kept: Tensor) -> None:
    nearest, usual = [], []
    for seed in range(30):
        new, counts = restart(old, kept, seeded(seed))
        assert counts["orthogonal"] == 0
        assert new.isfinite().all()
        nearest.append(cosines(new, kept).amax(1).mean())
        usual.append(cosines(torch.randn(200, old.shape[1]), kept).amax(1).mean())
    assert torch.stack(nearest).mean() <= torch.stack(usual).mean() + 0.005


def test_the_least_overlap_is_that_of_the_singular_values() -> None:
    """With kept filters along the axes, unequally many, the rarest axes are taken; never one twice."""
    kept = torch.eye(8)[[0] * 9 + [1] * 9 + [2] * 9 + [3] * 9 + [4, 5, 6, 7]]
    kept = kept + 0.3 * torch.randn(kept.shape, generator=seeded(3))
    old = torch.randn(2, 8, generator=seeded(4))
    new, counts = restart(old, kept, seeded())
    assert counts["least overlap"] == 2
    every = torch.nn.functional.normalize(torch.cat([old, kept]).double())
    values = torch.linalg.svdvals(every)
    got = torch.linalg.svdvals(every @ new.T)
    torch.testing.assert_close(got, values[-2:])


@pytest.mark.parametrize("size", [1, 2, 5])
def test_nothing_is_ever_nan(size: int) -> None:
    same, nothing, huge = torch.ones(3, size), torch.zeros(3, size), torch.full((2, size), 3e38)
    broken = torch.full((1, size), float("nan"))
    for old in (same, nothing, huge, broken, same[:0]):
        for kept in (same, nothing, huge, broken, same[:0]):
            new, _ = restart(old, kept, seeded())
            assert new.shape == old.shape
            assert new.isfinite().all()
            torch.testing.assert_close(new.norm(dim=1), torch.ones(len(old), dtype=torch.float64))


def test_one_seed_gives_one_answer_and_no_other_generator_is_touched() -> None:
    old, kept = torch.randn(3, 20), torch.randn(5, 20)
    state = torch.get_rng_state()
    first, again, other = (restart(old, kept, seeded(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_directions_are_uniform_in_the_null_space() -> None:
    """Without anything to avoid, coordinates have the moments of uniform directions, the sign included."""
    drawn = torch.stack([restart(torch.zeros(3, 3), torch.zeros(1, 3), seeded(seed))[0] for seed in range(500)])
    assert drawn.mean(0).abs().max() < 0.1
    assert (drawn.square().mean(0) - 1 / 3).abs().max() < 0.05
    assert abs(float(torch.linalg.det(drawn).mean())) < 0.2
