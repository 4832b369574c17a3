"""Pearson's r against numpy, whole and batch by batch."""

from __future__ import annotations

import doctest
import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference.similarity import correlation as by_numpy
from torch import Generator, Tensor

from filtersmith.measure import correlation
from filtersmith.measure.correlation import pearson


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


@given(
    shift=st.sampled_from((0.0, 1e6, -3.0)),
    cuts=st.lists(st.integers(0, 40), max_size=4),
    positions=st.integers(1, 3),
)
def test_as_numpy_has_it_whole_and_batch_by_batch(shift: float, cuts: list[int], positions: int) -> None:
    x, y = noise(40, 4, positions) + shift, noise(40, 2, positions, seed=1)
    y[:, 0] += x[:, 0] - shift
    expected = torch.from_numpy(by_numpy(x.numpy(), y.numpy()))
    torch.testing.assert_close(pearson(x, y), expected, atol=1e-6, rtol=0)
    ends = [0, *sorted(cuts), 40]
    parts = [[one[a:b] for a, b in pairwise(ends)] for one in (x, y)]
    torch.testing.assert_close(pearson(*(iter(part) for part in parts)), expected, atol=1e-6, rtol=0)
    own = pearson(iter(parts[0]))
    torch.testing.assert_close(own, torch.from_numpy(by_numpy(x.numpy(), x.numpy())), atol=1e-6, rtol=0)
    assert torch.equal(own, own.T)
    assert own.diagonal().tolist() == [1] * 4


def test_a_filter_that_does_not_vary_has_zero_and_a_copy_one() -> None:
    x = noise(30, 4, 5).float()
    x[:, 1], x[:, 3] = 0.1, -2 * x[:, 0] + 7
    found = pearson(x)
    assert found[1].tolist() == [0] * 4
    assert found[0, 3].item() == pytest.approx(-1, abs=1e-6)
    assert found.diagonal().tolist() == [1, 0, 1, 1]


def test_independent_noise_is_zero_with_the_stated_error() -> None:
    found = pearson(noise(100, 60, 16))[torch.ones(60, 60, dtype=torch.bool).triu(1)]
    assert abs(found.mean().item()) < 3.5 / 40 / math.sqrt(len(found))
    assert found.std().item() == pytest.approx(1 / math.sqrt(1599), rel=0.06)
    smooth = noise(100, 60, 1).expand(100, 60, 16) + 0.05 * noise(100, 60, 16, seed=1)
    found = pearson(smooth)[torch.ones(60, 60, dtype=torch.bool).triu(1)]
    assert found.std().item() == pytest.approx(1 / math.sqrt(99), rel=0.06)


def test_piece_by_piece_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = noise(40, 4, 3), noise(40, 2, 3, seed=1)
    whole = pearson(x, y), pearson(x)
    for piece in (100, 1):
        monkeypatch.setattr(correlation, "PIECE", piece)
        torch.testing.assert_close((pearson(x, y), pearson(x)), whole)
        broken = x.clone()
        broken[31, 2, 1] = -torch.inf
        with pytest.raises(ValueError, match="x must be finite, and channel 2 is not"):
            pearson(broken)


def test_what_is_no_activations_is_refused_in_one_line() -> None:
    x = noise(6, 3, 2)
    broken = x.clone()
    broken[2, 1, 1] = torch.inf
    for given_x, given_y, said in (
        (broken, None, "x must be finite, and channel 1 is not"),
        (x[:1, :, :1], None, "x must be 2 samples or more, got '1 of them'"),
        ([x, x[:, :2]], None, "of the same channels in all batches, got '3 and 2 channels'"),
        (x, x[:5], r"y must be on the samples and positions of x, \(6, 3, 2\)"),
        ([x, x], [x], "y must be given batch by batch as x is"),
        (x[:, 0, 0], None, "x must be activations"),
        (5, None, "x must be a tensor of activations, or an iterable of them, got 'int'"),
    ):
        with pytest.raises(ValueError, match=said) as error:
            pearson(given_x, given_y)  # type: ignore[arg-type]
        assert "\n" not in str(error.value)


def test_the_examples() -> None:
    assert doctest.testmod(correlation).failed == 0


@pytest.mark.parametrize("values", [torch.zeros(5, 0), torch.zeros(5, 3, 0), torch.zeros(5, 3, device="meta")])
def test_what_has_no_values_is_refused_in_one_line(values: Tensor) -> None:
    with pytest.raises(ValueError, match="x must be activations"):
        pearson(values)
