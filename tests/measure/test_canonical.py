"""The first canonical correlation of every two filters, against numpy one pair at a time."""

from __future__ import annotations

import math

import pytest
import torch
from reference.similarity import held_out
from torch import Generator, Tensor

from filtersmith.measure import canonical, correlation
from filtersmith.measure.canonical import first_correlations, inverse_roots


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def maps() -> Tensor:
    """Five filters: the third sees what the first does, the fourth a part of it."""
    found = noise(120, 5, 4)
    found[:, 2] = found[:, 0] @ noise(4, 4, seed=1)
    found[:, 3] += found[:, 0]
    return found


def test_every_pair_as_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    x = maps()
    found = first_correlations(x)
    expected = [[held_out(x[:, i].numpy(), x[:, j].numpy()) for j in range(5)] for i in range(5)]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), atol=1e-6, rtol=0)
    assert found[0, 2].item() == pytest.approx(1, abs=1e-9)
    assert torch.equal(found, found.T)
    monkeypatch.setattr(canonical, "PAIRS", 100)  # a few pairs at a time
    torch.testing.assert_close(first_correlations(x), found)
    monkeypatch.setattr(correlation, "PIECE", 70)  # and a few samples
    torch.testing.assert_close(first_correlations(x), found)


def test_invertible_maps_of_the_positions_and_shifts_are_not_seen() -> None:
    x = maps()
    mixed = torch.stack([x[:, f] @ (noise(4, 4, seed=f) * 10.0**f) + f for f in range(5)], 1)
    torch.testing.assert_close(first_correlations(mixed), first_correlations(x), atol=1e-8, rtol=0)


@pytest.mark.parametrize(
    ("samples", "positions", "share"),  # of the stated bound, measured on 10 times as many draws
    [(200, 1, 1.0), (200, 4, 0.985), (200, 16, 0.835), (8, 1, 1.03), (12, 4, 0.715), (36, 16, 0.73)],
)
def test_independent_noise_is_zero_with_the_stated_error(samples: int, positions: int, share: float) -> None:
    bound = math.sqrt((1 + 2 / math.pi) / (samples - 2))
    pairs = torch.ones(20, 20, dtype=torch.bool).triu(1)
    found = torch.cat([first_correlations(noise(samples, 20, positions, seed=s))[pairs] for s in range(8)])
    assert abs(found.mean().item()) < 3.5 * bound / math.sqrt(len(found))
    assert found.std().item() == pytest.approx(share * bound, rel=0.06)  # of 1520 pairs the error is 2%


def test_filters_that_do_not_vary_have_zero_with_themselves_too() -> None:
    x = maps()
    x[:, 1] = 7
    x[::2, 4] = 1  # constant on one half
    found = first_correlations(x)
    assert found[1].tolist() == [0] * 5
    assert found[4].tolist() == [0] * 5
    assert found.diagonal().tolist() == [1, 0, 1, 1, 0]


def test_roots_make_the_covariance_one_and_leave_out_what_does_not_vary() -> None:
    x = noise(50, 4)
    x[:, 3] = x[:, 0] + x[:, 1]
    covariance = x.T @ x
    root = inverse_roots(covariance.unsqueeze(0))[0]
    product = root.T @ covariance @ root
    assert product.diagonal().sort().values.tolist() == pytest.approx([0, 1, 1, 1], abs=1e-6)
    assert (root.abs().sum(0) > 0).sum() == 3
    shrunk = inverse_roots(covariance.unsqueeze(0), 0.5)[0]
    ridge = 0.5 * covariance + 0.5 * covariance.diagonal().mean() * torch.eye(4, dtype=torch.float64)
    torch.testing.assert_close(shrunk.T @ ridge @ shrunk, torch.eye(4, dtype=torch.float64))
