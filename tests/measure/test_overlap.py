"""Overlap of filters against pairs of Python lists, and what section 4 of the specification asks of it."""

from __future__ import annotations

import doctest

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference.overlap import cosine_lists, overlap_list
from torch import Tensor

from filtersmith.measure import overlap
from filtersmith.measure.overlap import cosines, overlaps, random_cosine


@st.composite
def layers(draw: st.DrawFn) -> tuple[Tensor, int]:
    """Filters with zeros and copies among them, of all magnitudes, and groups that divide them."""
    groups, size = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    shape = (groups * size, draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 2)))
    filters = torch.randn(shape, dtype=draw(st.sampled_from((torch.float32, torch.float64))))
    for row in draw(st.lists(st.integers(0, len(filters) - 1))):
        filters[row] = filters[draw(st.integers(0, len(filters) - 1))] * draw(
            st.sampled_from((0.0, -2.0, 1e-30, 1e30))
        )
    return filters.clamp(-1e30, 1e30), groups  # 1e30 of 1e30 would be infinite


@given(layer=layers())
def test_every_pair_as_by_hand(layer: tuple[Tensor, int]) -> None:
    filters, groups = layer
    got = cosines(filters, groups)
    assert got.dtype == filters.dtype
    torch.testing.assert_close(got.double(), torch.tensor(cosine_lists(filters, groups)).double(), atol=1e-6, rtol=0)
    assert (got.diagonal(dim1=1, dim2=2) == 0).all()
    overlap = overlaps(filters, groups)
    torch.testing.assert_close(
        overlap.double(), torch.tensor(overlap_list(filters, groups)).double(), atol=1e-6, rtol=0
    )
    size = len(filters) // groups
    assert (overlap >= 0).all()
    assert (overlap <= torch.tensor((size - 1) / size, dtype=overlap.dtype)).all()


@given(scales=st.lists(st.sampled_from((-3.0, -1.0, 0.01, 50.0)), min_size=6, max_size=6))
def test_only_the_direction_of_a_filter_counts(scales: list[float]) -> None:
    filters = torch.randn(6, 2, 3, 3, dtype=torch.float64)
    scaled = filters * torch.tensor(scales, dtype=torch.float64).view(-1, 1, 1, 1)
    torch.testing.assert_close(overlaps(scaled, 2), overlaps(filters, 2))


def test_copies_overlap_most_and_orthogonal_filters_not_at_all() -> None:
    filters = torch.randn(8, 3, 3, 3)
    filters[5] = -filters[2]
    assert set(overlaps(filters).topk(2).indices.tolist()) == {2, 5}
    assert overlaps(torch.eye(8).view(8, 2, 2, 2)).tolist() == [0] * 8
    assert overlaps(torch.ones(4, 1, 2, 2)).tolist() == [0.75] * 4
    for size in range(1, 40):  # rounding may not push a cosine above 1
        assert (overlaps(torch.randn(1, size).expand(5, size)) <= torch.tensor(0.8)).all()
    assert overlaps(torch.ones(6, 1, 3, 3), groups=6).tolist() == [0] * 6  # depthwise


def test_the_gradient_is_right_and_finite_where_a_filter_is_zero() -> None:
    filters = torch.randn(4, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w: cosines(w, 2), (filters,))
    for tiny in (0.0, 1e-45, 1e-30):
        row = torch.full((1, 1, 3, 3), tiny)
        filters = torch.cat([torch.randn(3, 1, 3, 3), row]).requires_grad_()
        (cosines(filters) * torch.randn(4, 4)).sum().backward()
        assert filters.grad is not None
        assert filters.grad.isfinite().all()
        assert bool(filters.grad[3].any()) == (tiny == 1e-30)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_and_autocast_are_computed_in_float32(dtype: torch.dtype) -> None:
    filters = torch.randn(16, 4, 3, 3).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        got = cosines(filters)
        assert torch.equal(got, cosines(filters.float()))
    assert torch.equal(got, cosines(filters.float()))
    assert got.dtype == torch.float32


def test_normalised_by_what_random_directions_have() -> None:
    for dimensions in (1, 2, 3, 27, 288):
        directions = torch.nn.functional.normalize(torch.randn(1000, dimensions, dtype=torch.float64))
        sampled = (directions[:500] @ directions[500:].T).abs().mean()
        assert random_cosine(dimensions) == pytest.approx(float(sampled), rel=0.02)
    filters = torch.randn(6, 3, 3, 3)
    torch.testing.assert_close(overlaps(filters, normalise="dim"), overlaps(filters) / random_cosine(27))
    results = doctest.testmod(overlap)
    assert (results.attempted, results.failed) == (1, 0)


def test_bad_options() -> None:
    with pytest.raises(ValueError, match="groups must be a divisor of the 6 filters, got 4"):
        cosines(torch.randn(6, 1), 4)
    with pytest.raises(ValueError, match="normalise must be None or 'dim', got 'size'"):
        overlaps(torch.randn(6, 1), normalise="size")  # type: ignore[arg-type]
